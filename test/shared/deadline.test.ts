import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { atDeadline } from '../../shared/deadline.ts';

const DAY_MS = 24 * 3_600_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it.each([0, 1, 1000, 24 * DAY_MS, 25 * DAY_MS, 80 * DAY_MS])(
  'acts once, in %i ms and not before',
  (ms) => {
    const act = vi.fn();
    atDeadline(Date.now() + ms, act);
    if (ms > 0) vi.advanceTimersByTime(ms - 1);
    expect(act).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(act).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(100 * DAY_MS);
    expect(act).toHaveBeenCalledTimes(1);
  },
);

it('acts soon where the time is over', () => {
  const act = vi.fn();
  atDeadline(Date.now() - 5000, act);
  expect(act).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(act).toHaveBeenCalledTimes(1);
});

it.each([10, 60 * DAY_MS])('does not act once it is called off, due in %i ms', (ms) => {
  const act = vi.fn();
  const callOff = atDeadline(Date.now() + ms, act);
  vi.advanceTimersByTime(ms - 5);
  callOff();
  vi.advanceTimersByTime(100 * DAY_MS);
  expect(act).not.toHaveBeenCalled();
});

it('never acts without a time', () => {
  const act = vi.fn();
  atDeadline(null, act)();
  expect(vi.getTimerCount()).toBe(0);
});
