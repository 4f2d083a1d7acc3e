// What each provider streams for the same answer, in its own words: text, a call of a tool, why it
// ended, the usage. Pieces as they come over the wire, one event each.

const sse = (data, event) => `${event ? `event: ${event}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;

/** The answer that all of them give. */
export const ANSWER = {
    text: 'Let me look. \u{1F600}',
    call: { name: 'lookup', arguments: '{"sku":"Q7"}' },
    finish: 'tool_calls',
    usage: { prompt_tokens: 21, completion_tokens: 9, total_tokens: 30 },
};

const usage = { ...ANSWER.usage };

/** An event of OpenAI's shape, with the members that are the same in all of a stream. */
function chunk(model, delta, { finish = null, ...more } = {}) {
    return { id: 'chatcmpl-r1', object: 'chat.completion.chunk', created: 1795000000, model,
             choices: delta === null ? [] : [{ index: 0, delta, finish_reason: finish }], ...more };
}

function openai() {
    const of = (...args) => sse(chunk('gpt-x', ...args));
    return [
        of({ role: 'assistant', content: '' }, { usage: null, obfuscation: 'x7' }),
        of({ content: 'Let me look. ' }, { usage: null, obfuscation: 'x' }),
        of({ content: '\u{1F600}' }, { usage: null }),
        of({ tool_calls: [{ index: 0, id: 'call_a1', type: 'function', function: { name: 'lookup', arguments: '' } }] }, { usage: null }),
        of({ tool_calls: [{ index: 0, function: { arguments: '{"sku":' } }] }, { usage: null }),
        of({ tool_calls: [{ index: 0, function: { arguments: '"Q7"}' } }] }, { usage: null }),
        of({}, { finish: 'tool_calls', usage: null }),
        of(null, { usage }),
        sse('[DONE]'),
    ];
}

/** OpenAI's other API. */
function responses() {
    let number = 0;
    const of = (type, more) => sse({ type, ...more, sequence_number: number++ }, type);
    const response = (more) => ({ response: { id: 'resp_1', object: 'response', created_at: 1795000000, model: 'gpt-r', status: 'in_progress', output: [], ...more } });
    const call = { type: 'function_call', id: 'fc_1', call_id: 'call_r1', name: 'lookup', arguments: '', status: 'in_progress' };
    return [
        of('response.created', response()),
        of('response.output_item.added', { output_index: 0, item: { type: 'message', id: 'msg_1', role: 'assistant', content: [] } }),
        of('response.output_text.delta', { item_id: 'msg_1', output_index: 0, content_index: 0, delta: 'Let me look. ' }),
        of('response.output_text.delta', { item_id: 'msg_1', output_index: 0, content_index: 0, delta: '\u{1F600}' }),
        of('response.output_text.done', { item_id: 'msg_1', output_index: 0, content_index: 0, text: ANSWER.text }),
        of('response.output_item.added', { output_index: 1, item: call }),
        of('response.function_call_arguments.delta', { item_id: 'fc_1', output_index: 1, delta: '{"sku":' }),
        of('response.function_call_arguments.delta', { item_id: 'fc_1', output_index: 1, delta: '"Q7"}' }),
        of('response.output_item.done', { output_index: 1, item: { ...call, arguments: ANSWER.call.arguments, status: 'completed' } }),
        of('response.completed', response({ status: 'completed', usage: {
            input_tokens: 21, input_tokens_details: { cached_tokens: 16 }, output_tokens: 9, output_tokens_details: { reasoning_tokens: 4 }, total_tokens: 30 } })),
    ];
}

function mistral() {
    const of = (...args) => sse(chunk('mistral-x', ...args));
    return [
        of({ role: 'assistant', content: '' }),
        of({ content: [{ type: 'text', text: 'Let me look. ' }] }),
        of({ content: '\u{1F600}' }),
        of({ content: '', tool_calls: [{ id: 'aB3dE6gH9', function: { name: 'lookup', arguments: '{"sku":"Q7"}' }, index: 0 }] },
           { finish: 'tool_calls', usage }),
        sse('[DONE]'),
    ];
}

function groq() {
    const of = (...args) => sse(chunk('openai/gpt-oss', ...args));
    return [
        of({ role: 'assistant', content: '' }, { x_groq: { id: 'req_1' } }),
        of({ reasoning: 'count' }),
        of({ content: 'Let me look. \u{1F600}' }),
        of({ tool_calls: [{ index: 0, id: 'call_g1', type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] }),
        of({}, { finish: 'tool_calls', x_groq: { id: 'req_1', usage: { ...usage, total_time: 0.02 } } }),
        sse('[DONE]'),
    ];
}

function together() {
    const of = (...args) => sse(chunk('moonshotai/Kimi-X', ...args));
    return [
        of({ role: 'assistant', content: 'Let me look. ', token_id: 9 }, { usage: null }),
        of({ role: 'assistant', content: '\u{1F600}', token_id: 10 }, { usage: null }),
        of({ role: 'assistant', content: '', tool_calls: [{ index: 0, id: 'call_t1', type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] }),
        of({ role: 'assistant', content: '' }, { finish: 'tool_calls', usage }),
        sse('[DONE]'),
    ];
}

function anthropic() {
    const of = (data) => sse(data, data.type);
    const delta = (index, it) => of({ type: 'content_block_delta', index, delta: it });
    return [
        of({ type: 'message_start', message: { id: 'msg_01', type: 'message', role: 'assistant', model: 'claude-x', content: [], stop_reason: null,
                                               usage: { input_tokens: 5, cache_read_input_tokens: 16, output_tokens: 1 } } }),
        of({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
        of({ type: 'ping' }),
        delta(0, { type: 'text_delta', text: 'Let me look. ' }),
        delta(0, { type: 'text_delta', text: '\u{1F600}' }),
        of({ type: 'content_block_stop', index: 0 }),
        of({ type: 'content_block_start', index: 1, content_block: { type: 'tool_use', id: 'toolu_01', name: 'lookup', input: {} } }),
        delta(1, { type: 'input_json_delta', partial_json: '{"sku":' }),
        delta(1, { type: 'input_json_delta', partial_json: '"Q7"}' }),
        of({ type: 'content_block_stop', index: 1 }),
        of({ type: 'message_delta', delta: { stop_reason: 'tool_use', stop_sequence: null }, usage: { output_tokens: 9 } }),
        of({ type: 'message_stop' }),
    ];
}

function gemini() {
    const of = (parts, more = {}) => `data: ${JSON.stringify({
        candidates: [{ content: { role: 'model', parts }, index: 0, ...more.candidate }],
        usageMetadata: more.usage, modelVersion: 'gemini-x', responseId: 'rsp1' })}\r\n\r\n`;
    return [
        of([{ text: 'weighing', thought: true }]),
        of([{ text: 'Let me look. ' }], { usage: { promptTokenCount: 21, totalTokenCount: 23 } }),
        of([{ text: '\u{1F600}' }]),
        of([{ functionCall: { id: 'fn1', name: 'lookup', args: { sku: 'Q7' } }, thoughtSignature: 'c2ln' }]),
        of([{ text: '' }], { candidate: { finishReason: 'STOP' },
                             usage: { promptTokenCount: 21, candidatesTokenCount: 5, thoughtsTokenCount: 4, totalTokenCount: 30 } }),
    ];
}

function ollama() {
    const of = (message, more = { done: false }) =>
        `${JSON.stringify({ model: 'qwen-x', created_at: '2026-11-23T01:02:03.000Z', message: { role: 'assistant', ...message }, ...more })}\n`;
    return [
        of({ content: '', thinking: 'count' }),
        of({ content: 'Let me look. ' }),
        of({ content: '\u{1F600}' }),
        of({ content: '', tool_calls: [{ function: { name: 'lookup', arguments: { sku: 'Q7' } } }] }),
        of({ content: '' }, { done: true, done_reason: 'stop', total_duration: 900000000, prompt_eval_count: 21, eval_count: 9 }),
    ];
}

function cohere() {
    const of = (type, more = {}) => sse({ type, ...more }, type);
    const message = (it) => ({ delta: { message: it } });
    return [
        of('message-start', { id: 'co-1', ...message({ role: 'assistant', content: [], tool_plan: '', tool_calls: [], citations: [] }) }),
        of('content-start', { index: 0, ...message({ content: { type: 'text', text: '' } }) }),
        of('content-delta', { index: 0, ...message({ content: { text: 'Let me look. ' } }) }),
        of('content-delta', { index: 0, ...message({ content: { text: '\u{1F600}' } }) }),
        of('content-end', { index: 0 }),
        of('tool-call-start', { index: 0, ...message({ tool_calls: { id: 'lookup_x1', type: 'function', function: { name: 'lookup', arguments: '' } } }) }),
        of('tool-call-delta', { index: 0, ...message({ tool_calls: { function: { arguments: '{"sku":"Q7"}' } } }) }),
        of('tool-call-end', { index: 0 }),
        of('message-end', { id: 'co-1', delta: { finish_reason: 'TOOL_CALL', usage: { billed_units: { input_tokens: 1, output_tokens: 2 }, tokens: { input_tokens: 21, output_tokens: 9 } } } }),
    ];
}

/** What each is asked by, what it streams, and how it says in the middle that it failed. */
export const RECORDINGS = {
    openai: { path: '/v1/chat/completions', pieces: openai(), error: sse({ error: { message: 'It broke.', type: 'server_error' } }) },
    responses: { provider: 'openai', model: 'with-responses', path: '/v1/responses', pieces: responses(),
                 error: sse({ type: 'error', code: 'server_error', message: 'It broke.', param: null, sequence_number: 3 }, 'error') },
    mistral: { path: '/v1/chat/completions', pieces: mistral(), error: sse({ error: { message: 'It broke.' } }) },
    groq: { path: '/v1/chat/completions', pieces: groq(), error: sse({ error: { message: 'It broke.', status_code: 400 } }, 'error') },
    together: { path: '/v1/chat/completions', pieces: together(), error: sse({ error: { message: 'It broke.' } }) },
    anthropic: { path: '/v1/messages', pieces: anthropic(),
                 error: sse({ type: 'error', error: { type: 'overloaded_error', message: 'It broke.' } }, 'error') },
    gemini: { path: '/v1beta/models/m:streamGenerateContent?alt=sse', pieces: gemini(),
              error: sse({ error: { code: 503, message: 'It broke.', status: 'UNAVAILABLE' } }) },
    ollama: { path: '/api/chat', pieces: ollama(), type: 'application/x-ndjson', error: '{"error":"It broke."}\n' },
    cohere: { path: '/v2/chat', pieces: cohere(),
              error: sse({ type: 'message-end', delta: { finish_reason: 'ERROR', error: 'It broke.' } }, 'message-end') },
};
