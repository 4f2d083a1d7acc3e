// The gateway's store, as tests look into it: a file of SQLite's, or, with STORE=postgres, a database
// of its own on a PostgreSQL that the test file starts. Both answer at once, with the same values.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';

export const POSTGRES = process.env.STORE === 'postgres';

/** Where the newest server's programs are. */
export function postgresPrograms() {
    const versions = '/usr/lib/postgresql';
    const found = fs.existsSync(versions) ? fs.readdirSync(versions) : [];
    const newest = found.filter((name) => fs.existsSync(`${versions}/${name}/bin/postgres`))
        .sort((a, b) => Number(b) - Number(a))[0];
    return newest && `${versions}/${newest}/bin`;
}

const NOBODY = 65534;
const asNobody = process.getuid() === 0
    ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : [];

/** A cluster in a directory of its own, reached by a UNIX socket there; never run by the superuser. */
export class PostgresServer {
    #databases = 0;

    /** `data` may be elsewhere, such as on a small disk. */
    constructor(directory = fs.mkdtempSync(path.join(os.tmpdir(), 'promptgate-pg-')),
                data = path.join(directory, 'data')) {
        this.directory = directory;
        this.data = data;
        if (asNobody.length > 0) {
            fs.chownSync(directory, NOBODY, NOBODY);
        }
        this.#program('initdb', '-D', this.data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8',
                      '--locale=C', '-N');
        this.start();
        this.sql('postgres', 'CREATE ROLE gateway LOGIN');
    }

    #program(name, ...args) {
        const [command, ...words] = [...asNobody, path.join(postgresPrograms(), name), ...args];
        execFileSync(command, words, { stdio: ['ignore', 'ignore', 'ignore'], cwd: this.directory,
                                       timeout: 120_000 });
    }

    start() {
        this.#program('pg_ctl', '-D', this.data, '-w', '-l', path.join(this.directory, 'log'),
                      '-o', `-k ${this.directory} -c listen_addresses= -c max_connections=60 ` +
                      '-c max_wal_size=64MB -c min_wal_size=32MB', 'start');
    }

    /** `mode` is pg_ctl's: fast, or immediate as if it crashed. */
    stop(mode = 'fast') {
        this.#program('pg_ctl', '-D', this.data, '-w', '-m', mode, 'stop');
    }

    remove() {
        try {
            this.stop('immediate');
        } catch {
            // it was not running
        }
        for (const name of fs.readdirSync(this.directory)) { // it may be a disk
            fs.rmSync(path.join(this.directory, name), { recursive: true, force: true });
        }
        try {
            fs.rmdirSync(this.directory);
        } catch {
            // it is one
        }
    }

    /** What psql prints of statements by the superuser. */
    sql(database, ...statements) {
        return psql(this.directory, 'postgres', database, statements);
    }

    createDatabase() {
        const name = `gateway_${++this.#databases}`;
        this.sql('postgres', `CREATE DATABASE ${name} OWNER gateway`);
        return new PostgresDatabase(this, name);
    }
}

const psqlArguments = (host, user, database) =>
    ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', host, '-U', user, '-d', database];

function psql(host, user, database, statements) {
    return execFileSync('psql', [...psqlArguments(host, user, database),
                                 ...statements.flatMap((one) => ['-c', one])],
                        { encoding: 'utf8', env: { ...process.env, PGTZ: 'UTC' },
                          stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 30, timeout: 60_000 });
}

function literal(value) {
    return typeof value === 'number' ? String(value) : `'${String(value).replaceAll("'", "''")}'`;
}

// As SQLite has them: times are text with milliseconds, booleans numbers.
function likeSqlite(value) {
    if (typeof value === 'boolean') {
        return Number(value);
    }
    const isTime = typeof value === 'string' && /^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/.test(value);
    return isTime ? new Date(value).toISOString() : value;
}

/** What is used here of a DatabaseSync. */
export class PostgresDatabase {
    isOpen = true;
    sequence = 'stored';

    constructor(server, name) {
        this.server = server;
        this.name = name;
        this.dsn = `host=${server.directory} user=gateway dbname=${name}`;
    }

    exec(sql) {
        this.server.sql(this.name, sql);
    }

    prepare(sql) {
        const bound = (values) => sql.replaceAll('?', () => literal(values.shift()));
        const all = (...values) => {
            const text = this.server.sql(
                this.name, `SELECT coalesce(json_agg(found), '[]') FROM (${bound(values)}) AS found`);
            return JSON.parse(text).map(({ stored: _, ...row }) => Object.fromEntries(
                Object.entries(row).map(([name, value]) => [name, likeSqlite(value)])));
        };
        return { all, get: (...values) => all(...values)[0],
                 run: (...values) => this.exec(bound(values)) };
    }

    close() {}

    /** A transaction that holds a lock until it is told to end. */
    async hold(lock) {
        const child = spawn('psql', psqlArguments(this.server.directory, 'postgres', this.name),
                            { stdio: ['pipe', 'pipe', 'inherit'] });
        child.stdin.write(`BEGIN; ${lock}; SELECT 'held';\n`);
        await new Promise((resolve) => child.stdout.once('data', resolve));
        return async () => {
            const ended = new Promise((resolve) => child.once('exit', resolve));
            child.stdin.end('ROLLBACK;\n');
            await ended;
        };
    }

    /** Cuts the connections of all others. */
    disconnectOthers() {
        this.exec('SELECT pg_terminate_backend(pid) FROM pg_stat_activity ' +
                  'WHERE datname = current_database() AND pid <> pg_backend_pid()');
    }
}

let shared;

/** The server of this test file; it ends with it. */
export function sharedServer() {
    if (!shared) {
        shared = new PostgresServer();
        process.on('exit', () => shared.remove());
    }
    return shared;
}

/** Opens `database`, a path or a PostgresDatabase. */
export function openStore(database, options = {}) {
    return typeof database === 'string' ? new DatabaseSync(database, { timeout: 5000, ...options })
                                        : database;
}

/** Keeps a store from being written to, until what it returns is called. */
export async function lockStore(database) {
    if (POSTGRES) {
        return database.hold('LOCK TABLE gateway_spool IN EXCLUSIVE MODE');
    }
    const other = openStore(database);
    other.exec('BEGIN IMMEDIATE');
    return async () => {
        other.exec('ROLLBACK');
        other.close();
    };
}
