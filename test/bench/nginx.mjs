// nginx as the peer that a gateway is measured beside.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

import { temporaryDirectory, until } from '../e2e/harness.mjs';
import { children } from '../e2e/proc.mjs';

const NGINX = process.env.NGINX ?? '/usr/sbin/nginx';
const started = [];
process.on('exit', () => started.forEach((child) => child.kill('SIGKILL')));

/** Debian's nginx as its package's configuration has it, but for one worker, kept connections to
 * the upstream, and an access log that is written in blocks; with `streams` it buffers none. */
export async function startNginx(upstreamPort, { workers: count = 1, streams = false } = {}) {
    const folder = temporaryDirectory();
    const file = path.join(folder, 'nginx.conf');
    const port = await freePort();
    const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) =>
        `    ${name}_temp_path ${folder}/${name};`).join('\n');
    fs.writeFileSync(file, `
daemon off;
worker_processes ${count};
pid ${folder}/pid;
error_log ${folder}/error.log warn;
events { worker_connections ${streams ? 8192 : 4096}; }
http {
${places}
    access_log ${folder}/access.log combined buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    upstream mock { server 127.0.0.1:${upstreamPort}; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            ${streams ? 'proxy_buffering off;' : ''}
        }
    }
}
`);
    const { NGINX: _, ...env } = process.env; // it would take that for sockets
    const child = spawn(NGINX, ['-c', file, '-p', folder, '-e', `${folder}/error.log`],
                        { env, stdio: ['ignore', 'inherit', 'inherit'] });
    started.push(child);
    await until('nginx', () => children(child.pid).length === count);
    const workers = children(child.pid).map(({ pid }) => pid);
    return { name: 'nginx', port, path: '/v1/chat/completions', headers: [],
             workers: () => workers, all: () => [child.pid, ...workers], stop: () => child.kill() };
}

/** One that was free a moment ago: nginx can't be asked which it took. */
async function freePort() {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

export function nginxVersion() {
    return new Promise((resolve) => {
        execFile(NGINX, ['-v'], (error, stdout, stderr) => resolve((stdout + stderr).trim()));
    });
}
