// What `make install` puts where, and the unit that runs it.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { PROMPTGATE, temporaryDirectory } from './harness.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const UNIT = path.join(ROOT, 'packaging/systemd/promptgate.service');
const SYSTEMD = spawnSync('systemd-analyze', ['--version']).status === 0;

const make = (target, directory, prefix = '/usr') =>
    execFileSync('make', [target, `BUILD=${path.dirname(PROMPTGATE)}`, '-o', PROMPTGATE, `DESTDIR=${directory}`, `prefix=${prefix}`],
                 { cwd: ROOT, encoding: 'utf8', env: { ...process.env, MAKEFLAGS: '' } });

const files = (directory) => fs.readdirSync(directory, { recursive: true })
    .filter((name) => fs.statSync(path.join(directory, name)).isFile()).sort();

test('everything has its place below DESTDIR; what an admin has changed stays', () => {
    const directory = temporaryDirectory();
    make('install', directory);
    const pages = fs.readdirSync(path.join(ROOT, 'man')).map((name) => `usr/share/man/man${name.at(-1)}/${name}`);
    const etc = ['promptgate.yaml', 'models.yaml', ...files(path.join(ROOT, 'etc')).filter((name) => name.endsWith('.example'))]
        .map((name) => `etc/promptgate/${name}`).sort();
    assert.deepEqual(files(directory), [...etc, 'usr/lib/systemd/system/promptgate.service', 'usr/lib/sysusers.d/promptgate.conf',
                                        'usr/sbin/promptgate', 'usr/share/bash-completion/completions/promptgate',
                                        'usr/share/fish/vendor_completions.d/promptgate.fish', 'usr/share/zsh/vendor-completions/_promptgate',
                                        ...pages].sort());
    const binary = path.join(directory, 'usr/sbin/promptgate');
    const config = path.join(directory, 'etc/promptgate');
    assert.match(execFileSync(binary, ['check', '--config', config], { encoding: 'utf8' }), /: ok/);
    assert.equal(fs.statSync(config).mode & 0o777, 0o750);

    fs.writeFileSync(path.join(config, 'promptgate.yaml'), 'listen: 127.0.0.1:0\n');
    make('install', directory);
    assert.equal(fs.readFileSync(path.join(config, 'promptgate.yaml'), 'utf8'), 'listen: 127.0.0.1:0\n');
    make('uninstall', directory);
    assert.deepEqual(files(directory), etc);
});

test('a shell completes commands, their subcommands and their flags', () => {
    const directory = temporaryDirectory();
    make('install', directory);
    const script = path.join(directory, 'usr/share/bash-completion/completions/promptgate');
    const complete = (...line) => execFileSync('bash', ['-c', `source ${script}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _promptgate; ` +
        'printf "%s\\n" "${COMPREPLY[@]}"', 'bash', 'x', 'promptgate', ...line], { encoding: 'utf8' }).trim().split('\n');
    const commands = [...fs.readFileSync(path.join(ROOT, 'master/cli/commands.h'), 'utf8').matchAll(/^int cmd_(\w+)\(/gm)].map(([, name]) => name);
    assert.deepEqual(complete('').sort(), commands.sort());
    assert.deepEqual(complete('re'), ['reload']);
    assert.deepEqual(complete('credential', '').sort(), ['add', 'init', 'list', 'reseal', 'rm']);
    assert.deepEqual(complete('token', 'create', '--p'), ['--project']);
    assert.deepEqual(complete('--config', directory, 'project', 'create', '--').sort(), ['--config', '--name', '--title']);
    assert.deepEqual(complete('explain', 'demo/x', '--t'), ['--token']);
    assert.deepEqual(complete('check', '--config', `${directory}/us`), [`${directory}/usr`]);
    for (const [shell, name] of [['zsh', 'zsh/vendor-completions/_promptgate'], ['fish', 'fish/vendor_completions.d/promptgate.fish']]) {
        const text = fs.readFileSync(path.join(directory, 'usr/share', name), 'utf8');
        commands.forEach((command) => assert.ok(text.includes(command), `${command} for ${shell}`));
        const checked = spawnSync(shell, ['-n', path.join(directory, 'usr/share', name)], { encoding: 'utf8' });
        assert.ok(checked.error?.code === 'ENOENT' || checked.status === 0, checked.stderr); // where the shell is there
    }
});

test('the unit names the prefix that it is installed to', () => {
    const directory = temporaryDirectory();
    make('install', directory, '/opt/promptgate');
    assert.match(fs.readFileSync(path.join(directory, 'opt/promptgate/lib/systemd/system/promptgate.service'), 'utf8'),
                 /^ExecStart=\/opt\/promptgate\/sbin\/promptgate serve$/m);
});

test('"a sandbox that systemd-analyze security --offline rates at 1.5 or better"', { skip: !SYSTEMD && 'needs systemd' }, () => {
    const said = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=15', UNIT], { encoding: 'utf8' });
    assert.equal(said.status, 0, said.stdout + said.stderr);
    assert.match(said.stdout, /Overall exposure level/);
});

test('"systemd-analyze verify" has nothing to say of it', { skip: !SYSTEMD && 'needs systemd' }, () => {
    const directory = temporaryDirectory();
    const unit = path.join(directory, 'promptgate.service');
    // As it will be once it is installed: with a program where the unit has one, and its pages.
    fs.writeFileSync(unit, fs.readFileSync(UNIT, 'utf8').replaceAll('/usr/sbin/promptgate', PROMPTGATE)
        .replace(/^Documentation=.*\n/m, ''));
    const said = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' });
    assert.deepEqual([said.status, said.stderr.split('\n').filter((line) => line.includes('promptgate'))], [0, []]);
});
