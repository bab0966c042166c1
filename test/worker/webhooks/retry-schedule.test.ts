import { describe, expect, it } from 'vitest';
import { parseRetryAfter, waitAfterFailureMs } from '../../../worker/webhooks/retry-schedule.ts';

const middle = () => 0.5;

describe('waitAfterFailureMs', () => {
  const options = { scheduleMs: [5000, 300_000], rng: middle };

  it('follows the schedule and ends with it', () => {
    expect([1, 2, 3].map((n) => waitAfterFailureMs(n, null, options))).toEqual([
      5000,
      300_000,
      null,
    ]);
  });

  it('strays from the schedule by a fifth at most', () => {
    expect(waitAfterFailureMs(1, null, { ...options, rng: () => 0 })).toBe(4000);
    expect(waitAfterFailureMs(1, null, { ...options, rng: () => 1 - 1e-9 })).toBe(6000);
  });

  it('waits longer when the receiver asks for it, but no longer than a day', () => {
    const onTime = { ...options, rng: () => 0 };
    expect(waitAfterFailureMs(1, 60_000, onTime)).toBe(60_000);
    expect(waitAfterFailureMs(2, 60_000, onTime)).toBe(240_000);
    expect(waitAfterFailureMs(1, 1e12, onTime)).toBe(86_400_000);
  });

  it('brings those that were asked to come back together one after the other', () => {
    expect(waitAfterFailureMs(1, 60_000, options)).toBe(66_000);
    expect(waitAfterFailureMs(1, 60_000, { ...options, rng: () => 1 - 1e-9 })).toBe(72_000);
  });
});

describe('parseRetryAfter', () => {
  const nowMs = Date.parse('2026-01-01T00:00:00Z');

  it('reads seconds and dates', () => {
    expect(parseRetryAfter('120', nowMs)).toBe(120_000);
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:00:30 GMT', nowMs)).toBe(30_000);
  });

  it('takes a date that is over for now', () => {
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', nowMs)).toBe(0);
  });

  it.each([null, '', 'soon', '-5', '1.5'])('makes nothing of %j', (header) => {
    expect(parseRetryAfter(header, nowMs)).toBeNull();
  });
});
