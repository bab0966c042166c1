import { describe, expect, it } from 'vitest';
import { parseChatRequest, parseCompletionRequest } from '../../../shared/protocol/request.ts';

const completion = (fields: object) =>
  parseCompletionRequest({ model: 'm', prompt: 'p', ...fields }).request;

const chat = (fields: object) =>
  parseChatRequest({ model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields }).request;

describe('parseCompletionRequest', () => {
  it('fills in what a bare request leaves open, and leaves the rest to the model', () => {
    expect(parseCompletionRequest({ model: 'm', prompt: 'p' })).toEqual({
      ignored: [],
      request: {
        endpoint: 'completions',
        model: 'm',
        prompts: ['p'],
        n: 1,
        maxTokens: 16,
        hasExplicitMaxTokens: false,
        echo: false,
        topLogprobs: null,
        sampling: {
          temperature: null,
          topP: null,
          topK: null,
          minP: null,
          presencePenalty: 0,
          frequencyPenalty: 0,
          repetitionPenalty: null,
          logitBias: [],
          seed: null,
        },
        stop: [],
        stream: false,
        includeUsage: false,
        ignoreEos: false,
        stopTokenIds: [],
        minTokens: 0,
        timeoutSeconds: null,
        onDisconnect: 'cancel',
        speculation: 'auto',
        priority: 1000,
        contextPolicy: { type: 'stop', sinkTokens: null, windowTokens: null },
        isBackground: false,
        webhook: null,
      },
    });
  });

  it.each([
    ['p', ['p']],
    ['', ['']],
    [
      ['p', 'q'],
      ['p', 'q'],
    ],
    [[1, 2], [[1, 2]]],
    [
      [[1], [2, 3]],
      [[1], [2, 3]],
    ],
  ])('reads prompt %j as %j', (prompt, expected) => {
    expect(completion({ prompt }).prompts).toEqual(expected);
  });

  it('takes one stop string or several', () => {
    expect(completion({ stop: 'end' }).stop).toEqual(['end']);
    expect(completion({ stop: ['a', 'b'] }).stop).toEqual(['a', 'b']);
    expect(completion({ stop: null }).stop).toEqual([]);
  });

  it.each([
    [0, 0],
    [2 ** 32 - 1, 2 ** 32 - 1],
    [2 ** 32 + 5, 5],
    [-1, 2 ** 32 - 1],
    [Number.MAX_SAFE_INTEGER, 2 ** 32 - 1],
  ])('keeps the low 32 bits of seed %d: %d', (seed, expected) => {
    expect(completion({ seed }).sampling.seed).toBe(expected);
  });

  it('reads the ways in which others say "no limit" and "greedy"', () => {
    expect(completion({ top_k: -1 }).sampling.topK).toBe(0);
    expect(completion({ top_k: 40 }).sampling.topK).toBe(40);
    expect(completion({ top_p: 0 }).sampling.topP).toBe(1e-6);
    expect(completion({ top_p: 0.5 }).sampling.topP).toBe(0.5);
  });

  it('reads logit_bias as pairs', () => {
    expect(completion({ logit_bias: { 5: -100, 17: 2.5 } }).sampling.logitBias).toEqual([
      [5, -100],
      [17, 2.5],
    ]);
  });

  it('names fields that nobody knows, inherited names among them', () => {
    const body = JSON.parse('{"model":"m","prompt":"p","__proto__":{},"toString":1,"x":null}');
    expect(parseCompletionRequest(body).ignored).toEqual(['__proto__', 'toString', 'x']);
  });
});

describe('parseChatRequest', () => {
  it('joins text parts and keeps what a template may want', () => {
    const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } };
    const { messages } = chat({
      messages: [
        { role: 'developer', content: 'brief', name: 'boss' },
        { role: 'user', content: [], name: null },
        { role: 'assistant', content: null, name: null, tool_calls: [call], refusal: null },
        { role: 'tool', content: [{ type: 'text', text: 'a' }], tool_call_id: 'c' },
      ],
    });
    expect(messages).toEqual([
      { role: 'developer', content: 'brief', name: 'boss' },
      { role: 'user', content: '' },
      { role: 'assistant', content: '', toolCalls: [call] },
      { role: 'tool', content: 'a', tool_call_id: 'c' },
    ]);
  });

  it('names fields of messages that nobody knows', () => {
    const messages = [
      { role: 'user', content: 'a', mood: 'fine', refusal: null },
      { role: 'assistant', content: 'b', annotations: [] },
    ];
    expect(parseChatRequest({ model: 'm', messages, x: 1 }).ignored).toEqual([
      'x',
      'messages[0].mood',
      'messages[1].annotations',
    ]);
  });

  it.each([
    [{}, null],
    [{ logprobs: false }, null],
    [{ logprobs: true }, 0],
    [{ logprobs: true, top_logprobs: 5 }, 5],
  ])('reads %j as %j alternatives', (fields, expected) => {
    expect(chat(fields).topLogprobs).toBe(expected);
  });

  it('keeps its own options', () => {
    const fields = { timeout: 1.5, priority: 1, on_disconnect: 'continue', speculation: 'off' };
    expect(chat({ ...fields, context_policy: 'sinks', window_tokens: 8 })).toMatchObject({
      timeoutSeconds: 1.5,
      priority: 1,
      onDisconnect: 'continue',
      speculation: 'off',
      contextPolicy: { type: 'sinks', sinkTokens: null, windowTokens: 8 },
    });
  });
});
