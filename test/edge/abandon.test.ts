import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { staysUnread } from '../../edge/abandon.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { jobOf } from '../support/jobs.ts';

const GRACE_MS = 10_000;
const LOOK_MS = 1000;
const job = jobOf();
let transport: FakeTransport;
let outcome: boolean | null;

beforeEach(() => {
  vi.useFakeTimers();
  transport = new FakeTransport();
  outcome = null;
});
afterEach(() => void vi.useRealTimers());

/** A client has just left its request; from now on somebody looks for it. */
async function leave(): Promise<void> {
  const gone = new AbortController();
  await transport.submit(job, gone.signal);
  gone.abort();
  void staysUnread(transport, job.id, GRACE_MS).then((isUnread) => {
    outcome = isUnread;
  });
}

/** @returns how the client goes without a word of its edge */
async function comeBack(): Promise<() => void> {
  const reading = new AbortController();
  await transport.open(job.id, null, reading.signal);
  return () => reading.abort();
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

/** Redis goes shortly before the end of the grace, and is back. */
async function loseRedis(): Promise<void> {
  await pass(GRACE_MS - 1500);
  transport.isDown = true;
  await pass(8000);
  transport.isDown = false;
}

describe('a request whose client left', () => {
  it('is given up after the grace, and not before', async () => {
    await leave();
    await pass(GRACE_MS - 1);
    expect(outcome).toBe(null);
    await pass(1);
    expect(outcome).toBe(true);
  });

  it.each([500, 5000, GRACE_MS - 100])('is kept when it comes back after %i ms', async (ms) => {
    await leave();
    await pass(ms);
    await comeBack();
    await pass(2 * GRACE_MS);
    expect(outcome).toBe(false);
  });

  it('is given up once nobody has listened for as long as the grace', async () => {
    await leave();
    await pass(3500);
    const vanish = await comeBack();
    await pass(3000);
    vanish();
    await pass(GRACE_MS - LOOK_MS);
    expect(outcome).toBe(null);
    await pass(LOOK_MS);
    expect(outcome).toBe(true);
  });

  it('is left to whoever sees it leave again', async () => {
    await leave();
    await pass(3500);
    const goAgain = await comeBack();
    goAgain();
    await transport.noteLeft(job.id);
    await pass(LOOK_MS);
    expect(outcome).toBe(false);
  });

  it('is kept when it came back while Redis was away, and its edge finds Redis later', async () => {
    await leave();
    await loseRedis();
    await pass(2000);
    await comeBack();
    await pass(2 * GRACE_MS);
    expect(outcome).toBe(false);
  });

  it('is given up a grace after Redis is back, when nobody comes', async () => {
    await leave();
    await loseRedis();
    await pass(GRACE_MS - 1);
    expect(outcome).toBe(null);
    await pass(LOOK_MS);
    expect(outcome).toBe(true);
  });
});
