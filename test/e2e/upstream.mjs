// An upstream of OpenAI's kind that counts: "answer N" to its Nth request, or what `next` says.
import http from 'node:http';

import { completion } from './mock.mjs';

const chunk = (delta, reason = null) => `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`;

function respond(response, json, content, message) {
    if (json.stream) {
        const usage = { id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [], usage: { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 } };
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end(`${chunk({ role: 'assistant', content })}${chunk({}, 'stop')}data: ${JSON.stringify(usage)}\n\ndata: [DONE]\n\n`);
        return;
    }
    const body = completion(json, content);
    Object.assign(body.choices[0].message, message);
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** Keeps what it was asked in `asked`. `next({ json, response, finish })` answers in its place. */
export async function startUpstream() {
    const it = { asked: [], next: null };
    const server = http.createServer((request, response) => {
        const chunks = [];
        request.on('data', (bytes) => chunks.push(bytes)).on('end', () => {
            const json = JSON.parse(Buffer.concat(chunks));
            const number = it.asked.push(json);
            const finish = (content = `answer ${number}`, message = {}) => respond(response, json, content, message);
            it.next ? it.next({ json, response, finish }) : finish();
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    it.base = `http://127.0.0.1:${server.address().port}/v1`;
    it.stop = () => { server.closeAllConnections(); server.close(); };
    return it;
}
