import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { IDLE, IdleClock } from '../../shared/idle-clock.ts';

const IDLE_MS = 1000;
const never = new Promise<string>(() => undefined);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** What a wait has come to by now. */
function watch<Value>(wait: Promise<Value>): { result: Value | null } {
  const watched: { result: Value | null } = { result: null };
  void wait.then((result) => {
    watched.result = result;
  });
  return watched;
}

/** A wait begun now gets its whole time, and no more. */
async function expectWholeTime(clock: IdleClock): Promise<void> {
  const wait = watch(clock.orIdle(never));
  await vi.advanceTimersByTimeAsync(IDLE_MS - 1);
  expect(wait.result).toBe(null);
  await vi.advanceTimersByTimeAsync(1);
  expect(wait.result).toBe(IDLE);
}

describe('IdleClock', () => {
  it('gives what a promise gives in time, and IDLE otherwise', async () => {
    const clock = new IdleClock(IDLE_MS);
    expect(await clock.orIdle(Promise.resolve('soon'))).toBe('soon');
    await expect(clock.orIdle(Promise.reject(new Error('soon')))).rejects.toThrow('soon');

    await expectWholeTime(clock);
  });

  it('gives each wait its whole time', async () => {
    const clock = new IdleClock(IDLE_MS);
    for (let i = 0; i < 5; i += 1) {
      const first = Promise.withResolvers<string>();
      const wait = clock.orIdle(first.promise);
      await vi.advanceTimersByTimeAsync(0.7 * IDLE_MS);
      first.resolve('news');
      expect(await wait).toBe('news');
    }
    await expectWholeTime(clock);
  });

  it('does not mind when the time of day is set', async () => {
    const clock = new IdleClock(IDLE_MS);
    const wait = watch(clock.orIdle(never));
    vi.setSystemTime(Date.now() - 3_600_000);
    await vi.advanceTimersByTimeAsync(IDLE_MS);
    expect(wait.result).toBe(IDLE);
  });

  it('waits again for what did not come in time', async () => {
    const clock = new IdleClock(IDLE_MS);
    const { promise, resolve } = Promise.withResolvers<string>();
    const first = watch(clock.orIdle(promise));
    await vi.advanceTimersByTimeAsync(IDLE_MS);
    expect(first.result).toBe(IDLE);

    const second = clock.orIdle(promise);
    resolve('late');
    expect(await second).toBe('late');
  });

  it('has one timer for any number of waits, and none when it has stopped', async () => {
    const clock = new IdleClock(IDLE_MS);
    for (let i = 0; i < 10; i += 1) {
      await clock.orIdle(Promise.resolve(i));
      expect(vi.getTimerCount()).toBe(1);
    }
    clock.stop();
    expect(vi.getTimerCount()).toBe(0);
    const again = watch(clock.orIdle(never));
    await vi.advanceTimersByTimeAsync(IDLE_MS);
    expect(again.result).toBe(IDLE);
    expect(vi.getTimerCount()).toBe(0);
  });
});
