import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LastTries } from '../../../worker/queue/last-tries.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('lets one request after another be tried, in the order in which they came', async () => {
  const tries = new LastTries();
  const { signal } = new AbortController();
  const begun: number[] = [];
  const ends = Array.from({ length: 3 }, async (_, i) => {
    const end = await tries.begin(signal);
    begun.push(i);
    return end;
  });
  const first = await ends[0];
  await vi.advanceTimersByTimeAsync(1000);
  expect(begun).toEqual([0]);
  first?.();
  first?.();
  await vi.advanceTimersByTimeAsync(1000);
  expect(begun).toEqual([0, 1]);
  (await ends[1])?.();
  await ends[2];
  expect(begun).toEqual([0, 1, 2]);
});

it('waits no longer than its bound for one that comes to nothing', async () => {
  const tries = new LastTries(50);
  const { signal } = new AbortController();
  await tries.begin(signal);
  let hasBegun = false;
  const second = tries.begin(signal).then(() => {
    hasBegun = true;
  });
  await vi.advanceTimersByTimeAsync(49);
  expect(hasBegun).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  await second;
  expect(hasBegun).toBe(true);
});

it('lets one that is called off go at once, and nobody before their turn', async () => {
  const tries = new LastTries();
  const { signal } = new AbortController();
  const calledOff = new AbortController();
  const endFirst = await tries.begin(signal);
  const second = tries.begin(calledOff.signal);
  let hasBegun = false;
  const third = tries.begin(signal).then(() => {
    hasBegun = true;
  });

  calledOff.abort();
  (await second)();
  (await tries.begin(calledOff.signal))();
  await vi.advanceTimersByTimeAsync(1000);
  expect(hasBegun).toBe(false);
  endFirst();
  await third;
});
