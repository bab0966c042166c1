import { beforeEach, describe, expect, it } from 'vitest';
import { type RequestId, toRequestId } from '../../../shared/ids.ts';
import type { GenerationEvent } from '../../../shared/protocol/generation.ts';
import type { Update } from '../../../worker/engine/engine.ts';
import { Outbox } from '../../../worker/thread/outbox.ts';

const ids = Array.from({ length: 64 }, (_, i) =>
  toRequestId(`req-${i.toString(16).padStart(32, '0')}`),
);
const [first, second] = [ids[0]!, ids[1]!];

function says(id: RequestId, text: string): Update {
  const tokenIds = [...text].map((letter) => letter.charCodeAt(0));
  const event = { type: 'tokens', choice: 0, tokenIds, text, logprobs: null } as const;
  return { id, events: [{ ...event, finishReason: null }] };
}

function ends(id: RequestId): Update {
  return { id, events: [{ type: 'error', code: 'internal', message: 'gone', param: null }] };
}

function textOf(events: readonly GenerationEvent[]): string {
  return events.map((event) => (event.type === 'tokens' ? event.text : event.type)).join('|');
}

describe('Outbox', () => {
  let sent: string[] = [];
  let outbox: Outbox;

  beforeEach(() => {
    sent = [];
    outbox = new Outbox((updates) => {
      sent.push(...updates.map(({ id, events }) => `${ids.indexOf(id)} ${textOf(events)}`));
    });
  });

  /** @returns what was sent since the last call */
  function taken(): string[] {
    return sent.splice(0);
  }

  it('tells the first and the last of a request at once, and lets the rest wait 5 ms', () => {
    outbox.add([says(first, 'a')], 100);
    expect(taken()).toEqual(['0 a']);

    outbox.add([says(first, 'b')], 101);
    outbox.add([says(first, 'c')], 104);
    expect(taken()).toEqual([]);
    outbox.add([says(first, 'd')], 105);
    expect(taken()).toEqual(['0 bcd']);

    outbox.add([says(first, 'e')], 106);
    outbox.add([ends(first)], 107);
    expect(taken()).toEqual(['0 e|error']);
  });

  it('tells at once that a request is due, though it has said something before', () => {
    outbox.add([says(first, 'a')], 100);
    outbox.add([{ id: first, events: [{ type: 'due' }] }], 101);
    expect(taken()).toEqual(['0 a', '0 due']);
  });

  it('does not tell of the others because one begins or ends', () => {
    outbox.add([says(first, 'a')], 100);
    outbox.add([says(first, 'b'), says(second, 'x')], 101);
    outbox.add([says(first, 'c'), ends(second)], 102);
    expect(taken()).toEqual(['0 a', '1 x', '1 error']);

    outbox.add([], 105);
    expect(taken()).toEqual(['0 bc']);
  });

  it('waits a millisecond for each of many streams, 50 at most', () => {
    const all = (count: number, text: string) => ids.slice(0, count).map((id) => says(id, text));
    outbox.add(all(20, 'a'), 100);
    outbox.add(all(20, 'b'), 119);
    expect(taken()).toHaveLength(20);
    outbox.add(all(20, 'c'), 120);
    expect(taken()).toEqual(Array.from({ length: 20 }, (_, i) => `${i} bc`));

    outbox.add(all(64, 'd'), 121);
    expect(taken()).toEqual(Array.from({ length: 44 }, (_, i) => `${20 + i} d`));
    outbox.add(all(64, 'e'), 169);
    expect(taken()).toEqual([]);
    outbox.add([], 170);
    expect(taken()).toHaveLength(64);
  });

  it('tells what waits of a request before it is forgotten, and of a new one with its id at once', () => {
    outbox.add([says(first, 'a')], 100);
    outbox.add([says(first, 'b')], 101);
    outbox.forget(first, 102);
    expect(taken()).toEqual(['0 a', '0 b']);

    outbox.add([says(first, 'c')], 103);
    expect(taken()).toEqual(['0 c']);
  });
});
