import { describe, expect, it } from 'vitest';
import type { RequestEvent, TokensEvent } from '../../../shared/protocol/event.ts';
import { mergeEvents } from '../../../shared/protocol/event-merge.ts';

function tokens(choice: number, ...tokenIds: number[]): TokensEvent {
  const text = tokenIds.map((tokenId) => ` ${tokenId}`).join('');
  return { type: 'tokens', choice, tokenIds, text, logprobs: null, finishReason: null };
}

describe('mergeEvents', () => {
  it('joins tokens to the last waiting ones of their choice', () => {
    const waiting: RequestEvent[] = [tokens(0, 1), tokens(1, 2)];
    mergeEvents(waiting, [tokens(0, 3), tokens(1, 4), tokens(0, 5)]);
    expect(waiting).toEqual([tokens(0, 1, 3, 5), tokens(1, 2, 4)]);
  });

  it('keeps the finish reason of the later one, and the log-probabilities of both', () => {
    const entry = { id: 1, text: 'a', bytes: [97], logprob: -1, top: [] };
    const first = { ...tokens(0, 1), logprobs: [entry] };
    const second: TokensEvent = { ...tokens(0, 1), logprobs: [entry], finishReason: 'stop' };
    const waiting: RequestEvent[] = [first];
    mergeEvents(waiting, [second]);
    expect(waiting).toEqual([
      { ...tokens(0, 1, 1), logprobs: [entry, entry], finishReason: 'stop' },
    ]);
  });

  it('leaves other events where they are, and arguments as they were', () => {
    const echo: RequestEvent = { type: 'echo', choice: 0, text: 'Hi', logprobs: null };
    const first = tokens(0, 1);
    const waiting: RequestEvent[] = [echo, first];
    mergeEvents(waiting, [tokens(0, 2)]);
    expect(waiting).toEqual([echo, tokens(0, 1, 2)]);
    expect(first).toEqual(tokens(0, 1));
  });
});
