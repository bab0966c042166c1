import { describe, expect, it } from 'vitest';
import { GivenEvents } from '../../../edge/transport/given-events.ts';
import type { RequestEvent, TokensEvent } from '../../../shared/protocol/event.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

function tokens(fields: Partial<TokensEvent>): TokensEvent {
  const none = { tokenIds: [], text: '', logprobs: null, finishReason: null };
  return { type: 'tokens', choice: 0, ...none, ...fields };
}

const logprobOf = (id: number) => ({ id, text: '', bytes: [], logprob: -id, top: [] });

/** What readers make of events: all that each choice has said. */
function fold(events: readonly (RequestEvent | null)[]) {
  const choices = [0, 1].map(() => ({
    echoes: 0,
    tokenIds: [] as number[],
    logprobs: [] as number[],
    text: '',
    ends: 0,
  }));
  for (const event of events) {
    if (event === null) continue;
    if (event.type !== 'tokens' && event.type !== 'echo') continue;
    const choice = choices[event.choice]!;
    if (event.type === 'echo') {
      choice.echoes += 1;
      continue;
    }
    choice.tokenIds.push(...event.tokenIds);
    choice.logprobs.push(...(event.logprobs ?? []).map(({ id }) => id));
    choice.text += event.text;
    if (event.finishReason !== null) choice.ends += 1;
  }
  return choices;
}

describe('GivenEvents', () => {
  it('gives of what is written again only what is new', () => {
    const given = new GivenEvents();
    given.take(tokens({ tokenIds: [1, 2], text: ' a dog' }));
    given.startAgain();

    expect(given.take(tokens({ tokenIds: [1], text: ' a' }))).toBeNull();
    expect(given.take(tokens({ tokenIds: [2, 3], text: ' dog ran' }))).toEqual(
      tokens({ tokenIds: [3], text: ' ran' }),
    );
  });

  it('tells an end that comes by itself, once', () => {
    const given = new GivenEvents();
    const events = [tokens({ tokenIds: [1], text: 'a' }), tokens({ finishReason: 'stop' })];
    given.take(events[0]!);
    given.startAgain();

    expect(events.map((event) => given.take(event))).toEqual([null, events[1]]);
    given.startAgain();
    expect(events.map((event) => given.take(event))).toEqual([null, null]);
  });

  it('loses and doubles nothing, wherever events are lost and however they are cut anew', () => {
    const rng = seededRng(5);
    /** Choice 1 says what choice 0 says, but from another token on; text comes a token late. */
    function cutAnew(): RequestEvent[] {
      const events: RequestEvent[] = [0, 1].map((choice) => {
        return { type: 'echo', choice, text: 'p', logprobs: null };
      });
      const at = [0, 0];
      while (at.some((start) => start < 40)) {
        const choice = integerFrom(rng, 0, 2);
        const start = at[choice]!;
        const end = Math.min(start + integerFrom(rng, 1, 6), 40);
        if (start === end) continue;
        const tokenIds = Array.from({ length: end - start }, (_, i) => 100 * choice + start + i);
        const logprobs = tokenIds.map(logprobOf);
        const text = tokenIds.map((id) => (id % 100 > 0 ? `${id - 1},` : '')).join('');
        const finishReason = end === 40 ? 'length' : null;
        events.push(tokens({ choice, tokenIds, logprobs, text, finishReason }));
        at[choice] = end;
      }
      return events;
    }

    for (let round = 0; round < 200; round += 1) {
      const given = new GivenEvents();
      const log = cutAnew();
      const read = log.slice(0, integerFrom(rng, 0, log.length)).map((each) => given.take(each));
      for (let again = 0; again < 2; again += 1) {
        given.startAgain();
        const anew = cutAnew();
        const numRead = again === 0 ? integerFrom(rng, 0, anew.length) : anew.length;
        read.push(...anew.slice(0, numRead).map((each) => given.take(each)));
      }

      expect(fold(read)).toEqual(fold(log));
    }
  });
});
