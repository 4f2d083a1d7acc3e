// Mistakes that are easily made, and the tests that must turn red when one is: `from`, which stands
// once in `file`, becomes `to`. A test is a program of the build with STEPS=1, below its
// folder, and its argument.
const log = (test) => `steps/test_master_log ${test}`;
const STORE = 'steps/test_master_store';

export const MUTATIONS = [
    // ---- requests in flight
    { name: 'a request is counted before its entry says so', file: 'shared/counters/requests.c',
      from: '    STEP(request_filled);\n    set_state(request, REQUEST_OPEN);\n',
      to: '    atomic_store(&requests->slot->requests, request->number);\n    STEP(request_filled);\n' +
          '    set_state(request, REQUEST_OPEN);\n',
      tests: [log('a_worker_dies')] },
    { name: 'the state is set before what it makes valid', file: 'shared/counters/requests.c',
      from: '    copy_text(request->status, sizeof request->status, outcome->status);\n',
      to: '    set_state(request, REQUEST_RECORDED);\n    STEP(request_outcome_known);\n' +
          '    copy_text(request->status, sizeof request->status, outcome->status);\n',
      tests: [log('a_worker_dies')] },
    { name: 'counts of the dead by a plain store, not a max', file: 'shared/counters/requests.c',
      from: '    if (atomic_load(count) < least)\n        atomic_store(count, least);\n',
      to: '    atomic_store(count, least);\n',
      tests: ['unit/test_counters_requests'] },
    { name: 'counts of the dead are left as they are', file: 'shared/counters/requests.c',
      from: '    set_counts_right(slot, table);\n',
      to: '    (void)set_counts_right;\n',
      tests: [log('a_worker_dies')] },
    { name: 'the dead are asked for what is OPEN only', file: 'shared/counters/requests.c',
      from: '    return state == REQUEST_OPEN || state == REQUEST_SENT;\n',
      to: '    return state == REQUEST_OPEN;\n',
      tests: [log('a_worker_dies')] },
    { name: 'an entry is in use before the slot knows of its place', file: 'shared/counters/requests.c',
      from: '        atomic_store_explicit(&requests->slot->entries, place + 1, memory_order_relaxed);\n' +
            '    STEP(request_entry_taken);\n',
      to: '        STEP(request_entry_taken);\n',
      tests: [log('a_worker_dies')] },
    // ---- the log pipe
    { name: 'WRITTEN before it is in the pipe', file: 'worker/log_writer.c',
      from: '        if (pushed->end > writer->written_bytes)\n            break;\n',
      to: '',
      and: { from: '        STEP(frame_to_write);\n',
             to: '        note_written(writer);\n        STEP(frame_to_write);\n' },
      tests: [log('a_worker_dies')] },
    { name: 'free before it is in the spool', file: 'worker/log_writer.c',
      from: '    uint64_t spooled = writer->written_bytes - (uint64_t)in_pipe;\n',
      to: '    uint64_t spooled = writer->written_bytes;\n',
      tests: [log('all_die')] },
    { name: 'a frame in two writes', file: 'worker/log_writer.c',
      from: '        ssize_t written = write(writer->pipe, rest.at, length);\n',
      to: '        ssize_t written = write(writer->pipe, rest.at, length / 2);\n' +
          '        STEP(frame_half_written);\n' +
          '        written += write(writer->pipe, rest.at + length / 2, length - length / 2);\n',
      tests: [log('a_worker_dies')] },
    // ---- rows of the dead
    { name: 'a slot is used again before its pipe is empty', file: 'master/slots.c',
      from: '    if (slots->states[slot] != SLOT_CLEANING || !pipe_is_empty(slots, slot))\n',
      to: '    (void)pipe_is_empty;\n    if (slots->states[slot] != SLOT_CLEANING)\n',
      tests: [log('a_worker_dies_then_all')] },
    { name: 'a row of the dead is WRITTEN before it is in the pipe', file: 'master/recovery.c',
      from: '        if (!write_row(counters, &table[i], pipe))\n',
      to: '        atomic_store(&table[i].state, REQUEST_WRITTEN);\n' +
          '        STEP(recovery_row_in_pipe);\n' +
          '        if (!write_row(counters, &table[i], pipe))\n',
      tests: ['unit/test_master_recovery'] },
    { name: 'after a cold start, what was in the pipes is not written again', file: 'master/recovery.c',
      from: '            atomic_store(&table[i].state, REQUEST_RECORDED);\n',
      to: '',
      tests: [log('all_die')] },
    { name: 'after a cold start, nobody looks for rows of the dead', file: 'master/slots.c',
      from: '        if (recovery_is_needed(counters, i))\n',
      to: '        if (recovery_is_needed(counters, i) && slots->count > count)\n',
      tests: [log('all_die')] },
    // ---- the spool
    { name: 'a segment is deleted before its rows are committed', file: 'master/logger/spool.c',
      from: '!read_out(segment) || segment->taken != segment->committed)',
      to: '!read_out(segment))',
      tests: [log('a_logger_dies')] },
    { name: 'a segment is closed in the middle of a record', file: 'master/logger/spool.c',
      from: 'segment->size >= spool->segment_bytes && read_out(segment);',
      to: 'segment->size >= spool->segment_bytes;',
      tests: [log('a_logger_dies')] },
    { name: 'a shortened segment keeps its name', file: 'master/logger/spool.c',
      from: '        if (!segment->closed)\n            rename_shortened(spool, segment, number);\n',
      to: '        (void)rename_shortened;\n',
      tests: [log('the_power_fails')] },
    { name: 'a missing fdatasync', file: 'master/logger/sync_note.c',
      from: '    int failed = fdatasync(fd);\n    if (!failed && wanted())\n        put(directory, name, 0,',
      to: '    int failed = 0;\n    if (!failed && wanted())\n        put(directory, name, 0,',
      tests: [log('the_power_fails')] },
    { name: "a missing fsync of a new segment's name", file: 'master/logger/spool.c',
      from: '    segment->is_new = true;\n    return append_segment(slot, segment);\n',
      to: '    return append_segment(slot, segment);\n',
      tests: [log('the_power_fails')] },
    { name: 'a refused row is passed over before it is set aside', file: 'master/logger/batch.c',
      from: '    if (!rejected_row(',
      to: '    batch->at++;\n    batch->rows[batch->at - 1].streamed = 0;\n    batch->refused = false;\n' +
          '    STEP(row_set_aside);\n    if (!rejected_row(',
      tests: [log('a_row_is_refused')] },
    // ---- the store
    { name: 'offsets in a transaction of their own, before the rows', file: 'master/store/sqlite.c',
      from: '    if (code == SQLITE_OK)\n        code = insert_rows(store, batch);\n',
      to: '    if (code == SQLITE_OK)\n        code = write_offsets(store, batch);\n' +
          '    sqlite_run(store, "COMMIT");\n    STEP(batch_between);\n' +
          '    sqlite_run(store, "BEGIN IMMEDIATE");\n' +
          '    if (code == SQLITE_OK)\n        code = insert_rows(store, batch);\n',
      tests: [STORE] },
    { name: 'synchronous=NORMAL', file: 'master/store/sqlite.c',
      from: '"PRAGMA synchronous = FULL"',
      to: '"PRAGMA synchronous = NORMAL"',
      tests: [STORE] },
    { name: 'the spool moves on without a commit', file: 'master/store/sqlite.c',
      from: '        code = sqlite_run(store, "COMMIT");\n    STEP(batch_committed);\n',
      to: '        code = sqlite_run(store, "ROLLBACK");\n    STEP(batch_committed);\n',
      tests: [STORE] },
    { name: 'a schema without a transaction', file: 'master/store/sqlite.c',
      from: '    int code = sqlite_run(store, "BEGIN IMMEDIATE");\n    STEP(schema_begun);\n',
      to: '    int code = SQLITE_OK;\n    STEP(schema_begun);\n',
      tests: [STORE] },
];
