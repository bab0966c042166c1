import { describe, expect, it } from 'vitest';
import { FinishRate } from '../../../worker/queue/finish-rate.ts';

/** A rate with a clock in the test's hand. */
function openRate(maxRunning: number) {
  const clock = { ms: 0 };
  const rate = new FinishRate(maxRunning, () => clock.ms);
  /** One after another. */
  function finish(count: number, runMs: number): void {
    for (let i = 0; i < count; i += 1) {
      const end = rate.start();
      clock.ms += runMs;
      end(1);
    }
  }
  return { clock, rate, finish };
}

describe('FinishRate', () => {
  it('knows nothing before the first finish', () => {
    const { clock, rate } = openRate(8);
    rate.start();
    clock.ms += 1000;
    expect(rate.perSecond).toBe(0);
  });

  it('is what all rows finish together', () => {
    const { rate, finish } = openRate(8);
    finish(3, 2000);
    expect(rate.perSecond).toBe(4);
  });

  it('is the same however many ran at a time', () => {
    const { clock, rate } = openRate(2);
    const ends = [rate.start(), rate.start()];
    clock.ms += 500;
    for (const end of ends) end(2);
    expect(rate.perSecond).toBe(4);
  });

  it('weighs requests of several lengths as they come', () => {
    const { rate, finish } = openRate(1);
    finish(1, 1000);
    finish(1, 3000);
    expect(rate.perSecond).toBe(0.5);
  });

  it('does not fall while there is nothing to do', () => {
    const { clock, rate, finish } = openRate(8);
    finish(3, 2000);
    clock.ms += 3_600_000;
    expect(rate.perSecond).toBe(4);
  });

  it('forgets what is older than 30 s, but for the last 16', () => {
    const { clock, rate, finish } = openRate(1);
    finish(100, 10);
    clock.ms += 20_000;
    finish(20, 100);
    clock.ms += 15_000; // the first hundred are too old now
    expect(rate.perSecond).toBeCloseTo(10);

    clock.ms += 60_000;
    finish(4, 1000);
    // of the last 16, twelve took 0.1 s and four 1 s
    expect(rate.perSecond).toBeCloseTo(16 / 5.2);
  });

  it('goes by those that ran beside most others', () => {
    const { clock, rate, finish } = openRate(8);
    finish(10, 100); // alone, each faster than it will be
    expect(rate.perSecond).toBe(80);
    const ends = Array.from({ length: 8 }, () => rate.start());
    clock.ms += 400;
    for (const [i, end] of ends.entries()) end(8 - i);
    expect(rate.perSecond).toBe(20);
  });
});
