// What an idle connection costs a worker, plain and over TLS: CONNECTIONS of each, which have made a
// request, and the growth of the worker's memory divided by them. See `make bench-idle`.
import { execFileSync } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';

import { demo, startGateway, temporaryDirectory } from '../e2e/harness.mjs';
import { machine, memoryOf, whole } from './common.mjs';

const CONNECTIONS = Number(process.env.CONNECTIONS || 2000);
const AT_ONCE = 50;

function certificate(folder) {
    const [cert, key] = ['cert', 'key'].map((name) => path.join(folder, `idle.${name}`));
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                             '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost'], { stdio: 'ignore' });
    return { cert, key };
}

/** A connection whose first request has been answered. */
function open(port, secure) {
    return new Promise((resolve, reject) => {
        const socket = secure ? tls.connect({ host: '::1', port, rejectUnauthorized: false })
                              : net.connect({ host: '127.0.0.1', port });
        socket.once('data', () => resolve(socket)).on('error', reject);
        socket.once(secure ? 'secureConnect' : 'connect', () =>
            socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'));
    });
}

async function openMany(count, port, secure) {
    const sockets = [];
    while (sockets.length < count) {
        const more = Math.min(AT_ONCE, count - sockets.length);
        sockets.push(...await Promise.all(Array.from({ length: more }, () => open(port, secure))));
    }
    return sockets;
}

async function measure(secure) {
    const gateway = await startGateway({
        workers: 1,
        service: { listen: ['127.0.0.1:0', { address: '[::1]:0', tls: [certificate(temporaryDirectory())] }],
                   http: { max_connections: CONNECTIONS + 100, idle_timeout: '1h' } },
        projects: demo({ hello: { provider: 'echo', model: 'echo' } }),
    });
    const port = secure ? Number(/listening on \[::1\]:(\d+)/.exec(gateway.stderr)[1]) : gateway.port;
    const { pid } = gateway.worker(0);
    const warm = await openMany(AT_ONCE, port, secure);
    const before = memoryOf(pid);
    const sockets = await openMany(CONNECTIONS, port, secure);
    const bytes = (memoryOf(pid) - before) / CONNECTIONS;
    [...warm, ...sockets].forEach((socket) => socket.destroy());
    await gateway.stop();
    return bytes;
}

const [plain, secure] = [await measure(false), await measure(true)];
console.log(`\n${machine()}: memory of a worker for each idle connection, of ${CONNECTIONS}: ` +
            `plain ${whole(plain)} bytes, TLS ${whole(secure)} bytes`);
process.exit(0);
