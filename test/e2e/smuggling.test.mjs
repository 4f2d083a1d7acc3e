// Requests that two servers could read differently, each sent to a real gateway with a second
// request behind it that must never be answered: "400 and the connection closes", none is taken for
// two, none hangs a worker. Once whole, once byte by byte.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';

import { demo, PROJECT_ID, startGateway, until } from './harness.mjs';
import { look } from './proc.mjs';

const PATH = `/api/${PROJECT_ID}/hello`;
const BODY = '{"message":"Hi"}';
const LENGTH = BODY.length;
const HEX = LENGTH.toString(16);
const SECOND = 'GET /healthz HTTP/1.1\r\nHost: second\r\n\r\n';
const AT_ONCE = 16;

let gateway;
before(async () => {
    gateway = await startGateway({
        workers: 1, service: { http: { header_timeout: '20s', body_timeout: '20s' } },
        projects: demo({ hello: { provider: 'echo', model: 'echo' } }),
    });
});
after(() => gateway?.stop());

const auth = () => `Authorization: Bearer ${gateway.token}\r\nContent-Type: application/json\r\n`;

/** A POST that would be served but for `lines` and what follows them. */
const post = (lines, body = BODY, { line = `POST ${PATH} HTTP/1.1`, host = 'Host: a\r\n' } = {}) =>
    () => `${line}\r\n${host}${auth()}${lines}\r\n${body}`;
const chunked = (body, lines = 'Transfer-Encoding: chunked\r\n') => post(lines, body);
const requestLine = (line) => post(`Content-Length: ${LENGTH}\r\n`, BODY, { line });
const header = (line) => post(`${line}Content-Length: ${LENGTH}\r\n`);
const length = (value) => post(`Content-Length:${value}\r\n`);
const coding = (line) => post(`${line}\r\n`, `${HEX}\r\n${BODY}\r\n0\r\n\r\n`);

const CHUNKS = `${HEX}\r\n${BODY}\r\n0\r\n\r\n`;
const each = (what, values, make) => values.map((value) => [`${what} ${JSON.stringify(value)}`, make(value)]);

const REFUSED = [
    // ---- how long the body is (RFC 9112 6.1 to 6.3)
    ['Content-Length, then Transfer-Encoding', coding(`Content-Length: ${CHUNKS.length}\r\nTransfer-Encoding: chunked`)],
    ['Transfer-Encoding, then Content-Length', coding(`Transfer-Encoding: chunked\r\nContent-Length: ${CHUNKS.length}`)],
    ['Content-Length 0 beside Transfer-Encoding', coding('Content-Length: 0\r\nTransfer-Encoding: chunked')],
    ['a body that ends early by its Content-Length', post('Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', `5c\r\nGET /x HTTP/1.1\r\n\r\n0\r\n\r\n`)],
    ['Content-Length twice, equal', header(`Content-Length: ${LENGTH}\r\n`)],
    ['Content-Length twice, different', header('Content-Length: 0\r\n')],
    ['Content-Length twice, one in lower case', header(`content-length: ${LENGTH}\r\n`)],
    ...each('Content-Length:', [
        `${LENGTH}, ${LENGTH}`, `${LENGTH},${LENGTH}`, '0, 5', ` +${LENGTH}`, ' -1', ' 0x10', ' 16.0', ' 1e1',
        ` ${LENGTH} 0`, ` ${LENGTH};`, ` ${LENGTH},`, ` ,${LENGTH}`, ' "16"', ' one', '', ' ', ' 1_6', ' 0b1',
        ` ${LENGTH}\x0b`, ` \x0c${LENGTH}`, ` ${LENGTH}\x00`, ' 18446744073709551616', ' 9223372036854775808',
        ' 4294967296000000000000', ' ١٦', ` ${LENGTH}\xa0`, ' 1 6', ' NaN', ' ∞',
    ], length),
    ...each('a Transfer-Encoding line', [
        'Transfer-Encoding: xchunked', 'Transfer-Encoding: chunkedx', 'Transfer-Encoding: chunked, identity',
        'Transfer-Encoding: identity, chunked', 'Transfer-Encoding: gzip, chunked', 'Transfer-Encoding: chunked, chunked',
        'Transfer-Encoding: identity', 'Transfer-Encoding: gzip', 'Transfer-Encoding: deflate', 'Transfer-Encoding:',
        'Transfer-Encoding: "chunked"', "Transfer-Encoding: 'chunked'", 'Transfer-Encoding: chunked;', 'Transfer-Encoding: chunked;q=1',
        'Transfer-Encoding: ,chunked', 'Transfer-Encoding: chunked,', 'Transfer-Encoding: \x0bchunked', 'Transfer-Encoding: \x0cchunked',
        'Transfer-Encoding: chunked\x0b', 'Transfer-Encoding: \x00chunked', 'Transfer-Encoding: chunked\x00', 'Transfer-Encoding: \x08chunked',
        'Transfer-Encoding: \xffchunked', 'Transfer-Encoding: chun\x00ked', 'Transfer-Encoding: chun ked', 'Transfer-Encoding: cow',
        'Transfer-Encoding : chunked', 'Transfer-Encoding\t: chunked', 'Transfer-Encoding\x00: chunked', 'Transfer-Encoding\x0b: chunked',
        ' Transfer-Encoding: chunked', '\tTransfer-Encoding: chunked', '\x0bTransfer-Encoding: chunked', 'Transfer-Encoding:\r\n chunked',
        'Transfer-Encoding:\n chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
        'Transfer-Encoding: chunked\r\nTransfer-Encoding: cow', 'Transfer-Encoding: cow\r\nTransfer-Encoding: chunked',
        'Transfer-Encoding: chunked\r\ntransfer-encoding: identity', 'X: y\rTransfer-Encoding: chunked', 'X: y\nTransfer-Encoding: chunked',
        'X: y\r\n\rTransfer-Encoding: chunked', 'Transfer-Encoding: chunKed\x85', 'Transfer Encoding: chunked',
        'Transfer-Encoding chunked', 'Transfer-Encoding; chunked', ':Transfer-Encoding: chunked',
    ], coding),
    ['Transfer-Encoding in HTTP/1.0', post('Transfer-Encoding: chunked\r\n', CHUNKS, { line: `POST ${PATH} HTTP/1.0` })],

    // ---- chunks (7.1)
    ...each('chunks', [
        `${HEX};a=b\r\n${BODY}\r\n0\r\n\r\n`, `${HEX};\r\n${BODY}\r\n0\r\n\r\n`, `${HEX} ;a\r\n${BODY}\r\n0\r\n\r\n`,
        `${HEX};a="\r\n"\r\n${BODY}\r\n0\r\n\r\n`, `${HEX};\n${BODY}\r\n0\r\n\r\n`, `${HEX} \r\n${BODY}\r\n0\r\n\r\n`,
        ` ${HEX}\r\n${BODY}\r\n0\r\n\r\n`, `0x${HEX}\r\n${BODY}\r\n0\r\n\r\n`, `+${HEX}\r\n${BODY}\r\n0\r\n\r\n`,
        `-${HEX}\r\n${BODY}\r\n0\r\n\r\n`, `${HEX}\n${BODY}\r\n0\r\n\r\n`, `${HEX}\r${BODY}\r\n0\r\n\r\n`,
        `${HEX}\r\n${BODY}\n0\r\n\r\n`, `${HEX}\r\n${BODY}0\r\n\r\n`, `${HEX}\r\n${BODY}XX0\r\n\r\n`,
        `${HEX}\r\n${BODY}\r0\r\n\r\n`, `${HEX}\r\n${BODY}\r\n0\n\n`, `${HEX}\r\n${BODY}\r\n0\r\n\n`,
        `${HEX}\r\n${BODY}\r\n0\r\nX: y\r\n\r\n`, `${HEX}\r\n${BODY}\r\n0\r\nContent-Length: 5\r\n\r\n`,
        `${HEX}\r\n${BODY}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n`, `${HEX}\r\n${BODY}\r\n0;a=b\r\n\r\n`,
        `${HEX}\r\n${BODY}\r\n0 \r\n\r\n`, `${HEX}\r\n${BODY}\r\n-0\r\n\r\n`, `${HEX}g\r\n${BODY}\r\n0\r\n\r\n`,
        `${HEX}_\r\n${BODY}\r\n0\r\n\r\n`, `\r\n${HEX}\r\n${BODY}\r\n0\r\n\r\n`, `"${HEX}"\r\n${BODY}\r\n0\r\n\r\n`,
        `${HEX}\r\n${BODY}\r\n\r\n0\r\n\r\n`, `FFFFFFFFFFFFFFFFF\r\n${BODY}\r\n0\r\n\r\n`, `1000000000000000${HEX}\r\n${BODY}\r\n0\r\n\r\n`,
        `00000000000000000${HEX}\r\n${BODY}\r\n0\r\n\r\n`, `${HEX}\x00\r\n${BODY}\r\n0\r\n\r\n`, `${HEX}\r\n${BODY}\r\n0\r\n\x00\r\n`,
        `${HEX},\r\n${BODY}\r\n0\r\n\r\n`, `{"message":"Hi"}`, `x\r\n\r\n`, `;a=b\r\n\r\n`,
    ], chunked),

    // ---- header lines (5)
    ...each('a header line', [
        'X : y\r\n', 'X\t: y\r\n', 'X\r\n', ': y\r\n', 'X y\r\n', 'X: y\r\n folded\r\n', 'X: y\r\n\tfolded\r\n', ' X: y\r\n',
        'X: a\rb\r\n', 'X: a\nb\r\n', 'X: a\x00b\r\n', 'X: a\x01b\r\n', 'X: a\x7fb\r\n', 'X\x00: y\r\n', 'X\xe4: y\r\n', 'X(: y\r\n',
        'X): y\r\n', 'X,Y: y\r\n', 'X/Y: y\r\n', 'X;Y: y\r\n', 'X=Y: y\r\n', 'X@Y: y\r\n', 'X[0]: y\r\n', 'X{}: y\r\n', '"X": y\r\n',
        'X: y\n', '\rX: y\r\n', 'X: y\r\r\n', 'X: y\r\n\r: z\r\n', 'Content-Length\x00: 0\r\n', 'Host: b\r\n', 'host: a\r\n',
        'Expect: 200-ok\r\n', 'Expect: 100-continue, x\r\n', '\x0b\r\n',
    ], header),
    ...each('a Host line', ['', 'Host: a b\r\n', 'Host: a/b\r\n', 'Host: a@b\r\n', 'Host: a,b\r\n', 'Host: a\x00\r\n', 'Host: a\r\n b\r\n', 'Host : a\r\n',
                            'Host: a#b\r\n', 'Host: a?b\r\n', 'Host: "a"\r\n', 'Host: a\\b\r\n'],
           (host) => post(`Content-Length: ${LENGTH}\r\n`, BODY, { host })),

    // ---- the request line (3)
    ...each('a request line', [
        `POST  ${PATH} HTTP/1.1`, `POST ${PATH}  HTTP/1.1`, `POST\t${PATH}\tHTTP/1.1`, `POST ${PATH} HTTP/1.1 `, ` POST ${PATH} HTTP/1.1`,
        `POST ${PATH}`, `POST ${PATH} HTTP/2.0`, `POST ${PATH} HTTP/1.2`, `POST ${PATH} HTTP/0.9`, `POST ${PATH} http/1.1`, `POST ${PATH} HTTP/1.01`,
        `POST ${PATH} HTTP/1,1`, `POST ${PATH} HTTP/1.1x`, `POST ${PATH} HTTP 1.1`, `POST ${PATH} RTSP/1.0`, `POST http://a${PATH} HTTP/1.1`,
        `POST https://b${PATH} HTTP/1.1`, `POST HTTP://a${PATH} HTTP/1.1`, `POST a:80 HTTP/1.1`, `POST * HTTP/1.1`, 'CONNECT a:80 HTTP/1.1', `CONNECT ${PATH} HTTP/1.1`,
        `POST ${PATH}#x HTTP/1.1`, `POST ${PATH.replace('/hello', '%2fhello')} HTTP/1.1`, `POST ${PATH.replace('/hello', '%2Fhello')} HTTP/1.1`,
        `POST ${PATH.replace('/hello', '%5chello')} HTTP/1.1`, `POST ${PATH}%00 HTTP/1.1`, `POST ${PATH}%0d%0aX:y HTTP/1.1`, `POST ${PATH}%zz HTTP/1.1`, `POST ${PATH}% HTTP/1.1`,
        `POST ${PATH}\x00 HTTP/1.1`, `POST ${PATH}\x0b HTTP/1.1`, `POST \\${PATH} HTTP/1.1`, `POST ${PATH}\\x HTTP/1.1`, `POST ${PATH} HTTP/1.1\rX: y`, `POST ${PATH} HTTP/1.1\nX: y`,
        `PO ST ${PATH} HTTP/1.1`, `POST: ${PATH} HTTP/1.1`, `"POST" ${PATH} HTTP/1.1`, `P\x00ST ${PATH} HTTP/1.1`, `POST ${PATH} HTTP/1.1\x00`, `POST ${PATH}\x7f HTTP/1.1`,
        `POST ${PATH}\xff HTTP/1.1`, `POST ? HTTP/1.1`, `POST HTTP/1.1`, 'POST', `\r\n\r\nPOST ${PATH} HTTP/1.1`, `\nPOST ${PATH} HTTP/1.1`, `\x00POST ${PATH} HTTP/1.1`,
        `\r\nPOST\r\n${PATH} HTTP/1.1`, 'PRI * HTTP/2.0',
    ], requestLine),
    ['a whole head with bare line feeds', () => `POST ${PATH} HTTP/1.1\nHost: a\n${auth().replaceAll('\r', '')}Content-Length: ${LENGTH}\n\n${BODY}`],
    ['an empty line with a bare line feed ends the head', () => `POST ${PATH} HTTP/1.1\r\nHost: a\r\n${auth()}Content-Length: ${LENGTH}\r\n\n${BODY}`],
    ['a carriage return alone ends the head', () => `POST ${PATH} HTTP/1.1\r\nHost: a\r\n${auth()}Content-Length: ${LENGTH}\r\n\r${BODY}\r\n`],
];

// Served, and so is what follows: the table above does not refuse everything.
const SERVED = [
    ['a plain POST', post(`Content-Length: ${LENGTH}\r\n`)],
    ['chunks', chunked(CHUNKS)],
    ['chunks in upper case, with zeroes', chunked(`0${HEX.toUpperCase()}\r\n${BODY}\r\n000\r\n\r\n`)],
    ['chunks of one byte', chunked(`${[...BODY].map((c) => `1\r\n${c}\r\n`).join('')}0\r\n\r\n`)],
    ['Transfer-Encoding: CHUNKED', coding('transfer-encoding:\tCHUNKED ')],
    ['an empty line before', () => `\r\n${post(`Content-Length: ${LENGTH}\r\n`)()}`],
    ['white space around values', header('X: \t y \t\r\n')],
    ['zeroes before the length', post(`Content-Length: 00${LENGTH}\r\n`)],
    ['a value in Latin-1', header('X: \xe4\r\n')],
    ['a header without a value', header('X:\r\n')],
    ['headers of one name', header('X: a\r\nX: b\r\n')],
    ['a Host with a port', post(`Content-Length: ${LENGTH}\r\n`, BODY, { host: 'Host: [::1]:80\r\n' })],
    ['names that look like framing', header('Content-Length-: 1\r\nX-Transfer-Encoding: cow\r\nTransfer_Encoding: cow\r\n')],
];

/** Everything that the gateway says to these bytes; ended: it has closed its side. */
function converse(bytes, { singly = false, seconds = 30, until: enough = () => false } = {}) {
    return new Promise((resolve) => {
        const socket = net.connect(gateway.port, '127.0.0.1');
        let text = '';
        let sender;
        const finish = (ended) => {
            clearTimeout(timer);
            clearImmediate(sender);
            socket.destroy();
            resolve({ text, ended });
        };
        const timer = setTimeout(() => finish(false), seconds * 1000);
        socket.setNoDelay(true);
        socket.setEncoding('latin1');
        socket.on('data', (part) => {
            text += part;
            if (enough(text)) {
                finish(false);
            }
        });
        socket.on('end', () => finish(true)).on('error', () => finish(true));
        socket.on('connect', () => {
            let at = 0;
            const next = () => {
                if (at < bytes.length && socket.writable) {
                    socket.write(bytes.subarray(at, ++at), () => {
                        sender = setImmediate(next);
                    });
                }
            };
            if (singly) {
                next();
            } else {
                socket.write(bytes);
            }
        });
    });
}

const bytesOf = (text) => Buffer.from(text, 'latin1');
const statuses = (text) => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));

async function eachOf(table, check) {
    const failures = [];
    const todo = [...table];
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let one = todo.shift(); one; one = todo.shift()) {
            try {
                await check(one);
            } catch (error) {
                failures.push(`${one[0]}: ${error.message}`);
            }
        }
    }));
    assert.deepEqual(failures, []);
}

test(`there are at least 150 of them: ${REFUSED.length}`, () => {
    assert.ok(REFUSED.length >= 150);
    assert.equal(new Set(REFUSED.map(([name]) => name)).size, REFUSED.length, 'each once');
});

for (const singly of [false, true]) {
    const how = singly ? 'byte by byte' : 'whole';
    test(`"400 and the connection closes": each, ${how}, is answered once and ends there`, () =>
        eachOf(REFUSED, async ([, make]) => {
            const { text, ended } = await converse(bytesOf(make() + SECOND), { singly });
            assert.ok(ended, `the connection stayed open: ${text}`);
            assert.deepEqual(statuses(text), [400], text);
            assert.match(text, /"code":"bad_http"/);
            assert.match(text, /\r\nConnection: close\r\n/);
        }));

    test(`what is well-formed, ${how}, is served, and what follows it, too`, () =>
        eachOf(SERVED, async ([, make]) => {
            const { text } = await converse(bytesOf(make() + SECOND), {
                singly, until: (sofar) => sofar.endsWith('\r\n\r\n{"ok":true}') });
            assert.deepEqual(statuses(text), [200, 200], text);
        }));
}

test('the worker is the same as before, and idle; refusals are counted, rows are of what was served', async () => {
    const worker = gateway.worker(0);
    assert.ok(look(worker.pid));
    const state = await (await fetch(`${gateway.base}/healthz?verbose`)).json();
    assert.equal(state.requests_in_flight, 0);
    await gateway.stop();
    const counted = gateway.refused().filter(({ code }) => code === 'bad_http')
        .reduce((sum, { count }) => sum + count, 0);
    const late = gateway.rows("status = 'bad_http'").length; // found in a body, behind an accepted token
    assert.equal(counted + late, 2 * REFUSED.length);
    assert.equal(gateway.rows("status = 'ok'").length, 2 * SERVED.length);
    assert.doesNotMatch(gateway.stderr, /was killed|ended with/);
});
