import { describe, expect, it } from 'vitest';
import { toFrames } from '../../../edge/stream/frames.ts';
import { PlatformError } from '../../../shared/errors.ts';
import type { EventId, LoggedEvent } from '../../../shared/protocol/event.ts';
import { parseFrames } from '../../support/edge.ts';
import { doneOf } from '../../support/fake-transport.ts';
import { jobOf, tokensOf } from '../../support/transport-conformance.ts';

async function* log(...ids: EventId[]): AsyncGenerator<LoggedEvent> {
  for (const id of ids) yield { id, event: tokensOf('a') };
  const { epoch, seq } = ids.at(-1)!;
  yield { id: { epoch, seq: seq + 1 }, event: doneOf({ promptTokens: 1, completionTokens: 1 }) };
}

async function framesAfter(after: EventId, events: AsyncIterable<LoggedEvent>) {
  const { signal } = new AbortController();
  const toPlatformError = (error: unknown) => {
    if (error instanceof PlatformError) return error;
    throw error;
  };
  const options = { after, hasFailed: false, signal, toPlatformError };
  const frames = await Array.fromAsync(toFrames(events, jobOf({ topLogprobs: 0 }), options));
  return parseFrames(frames.join(''));
}

describe('toFrames', () => {
  it('goes on after a frame of an earlier claim', async () => {
    const events = log({ epoch: 1, seq: 0 }, { epoch: 1, seq: 1 }, { epoch: 2, seq: 2 });
    const frames = await framesAfter({ epoch: 1, seq: 1 }, events);
    expect(frames.map(({ id }) => id)).toEqual(['2-2', '2-3']);
  });

  it('does not go on after a frame whose event was lost and written again', async () => {
    const events = log({ epoch: 1, seq: 0 }, { epoch: 2, seq: 1 }, { epoch: 2, seq: 2 });
    const frames = await framesAfter({ epoch: 1, seq: 1 }, events);
    expect(frames).toMatchObject([{ id: null, data: { error: { code: 'events_trimmed' } } }]);
  });
});
