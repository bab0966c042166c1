import { describe, expect, it } from 'vitest';
import { Endpoint, Endpoints } from '../../../worker/webhooks/endpoint.ts';

const options = { maxConcurrent: 2, maxFailures: 3, openMs: 1000, maxOpenMs: 3000 };
const ok = { isProbe: false, isAlive: true, durationMs: 10 };
const failed = { isProbe: false, isAlive: false, durationMs: 10 };
const MANY = 100;

function open() {
  const clock = { ms: 0 };
  return { clock, endpoint: new Endpoint(options, () => clock.ms) };
}

function fail(endpoint: Endpoint, times: number): void {
  for (let i = 0; i < times; i += 1) {
    expect(endpoint.enter(MANY).type).toBe('entered');
    endpoint.leave(failed);
  }
}

describe('Endpoint', () => {
  it('lets in as many as it may have at a time', () => {
    const { endpoint } = open();
    expect([1, 2, 3].map(() => endpoint.enter(MANY).type)).toEqual(['entered', 'entered', 'busy']);
    endpoint.leave(ok);
    expect(endpoint.enter(MANY).type).toBe('entered');
  });

  it('takes no second place while few are left', () => {
    const { endpoint } = open();
    expect([1, 2].map(() => endpoint.enter(4).type)).toEqual(['entered', 'busy']);
  });

  it('sends those that wait back one after the other', () => {
    const { endpoint } = open();
    endpoint.enter(MANY);
    endpoint.enter(MANY);
    const waits = [1, 2, 3].map(() => endpoint.enter(MANY)).map((e) => 'afterMs' in e && e.afterMs);
    expect(waits).toEqual([100, 200, 300]);
  });

  it('opens after failures in a row, and not after as many with a success between', () => {
    const { endpoint } = open();
    fail(endpoint, 2);
    endpoint.enter(MANY);
    endpoint.leave(ok);
    fail(endpoint, 2);
    expect(endpoint.state).toBe('closed');
    fail(endpoint, 1);
    expect(endpoint.state).toBe('open');
    expect(endpoint.enter(MANY)).toEqual({ type: 'open', afterMs: 1000 });
  });

  it('probes with one delivery once its time is over, and closes when that succeeds', () => {
    const { endpoint, clock } = open();
    fail(endpoint, 3);
    clock.ms = 1000;
    expect(endpoint.state).toBe('half-open');
    expect(endpoint.enter(MANY)).toEqual({ type: 'entered', isProbe: true });
    expect(endpoint.enter(MANY).type).toBe('open');
    endpoint.leave({ ...ok, isProbe: true });
    expect(endpoint.state).toBe('closed');
    expect(endpoint.enter(MANY)).toEqual({ type: 'entered', isProbe: false });
  });

  it('stays open for twice as long after each probe that failed, up to a bound', () => {
    const { endpoint, clock } = open();
    fail(endpoint, 3);
    const waits = [1, 2, 3].map((_) => {
      clock.ms += 10_000;
      expect(endpoint.enter(MANY)).toEqual({ type: 'entered', isProbe: true });
      endpoint.leave({ ...failed, isProbe: true });
      const entry = endpoint.enter(MANY);
      return 'afterMs' in entry && entry.afterMs;
    });
    expect(waits).toEqual([2000, 3000, 3000]);
  });

  it('does not take what was on its way before for its probe', () => {
    const { endpoint, clock } = open();
    endpoint.enter(MANY);
    fail(endpoint, 3);
    clock.ms = 1000;
    endpoint.enter(MANY);
    endpoint.leave(failed);
    expect(endpoint.enter(MANY).type).toBe('open');
    endpoint.leave({ ...ok, isProbe: true });
    expect(endpoint.state).toBe('closed');
  });
});

describe('Endpoints', () => {
  it('keeps tenants and paths apart, and queries together', () => {
    const endpoints = new Endpoints(options, () => 0);
    const one = endpoints.of('a', 'https://x.example/hook?id=1');
    one.enter(MANY);
    expect(endpoints.of('a', 'https://x.example/hook?id=2')).toBe(one);
    expect(endpoints.of('b', 'https://x.example/hook?id=1')).not.toBe(one);
    expect(endpoints.of('a', 'https://x.example/other')).not.toBe(one);
  });

  it('counts those whose breaker is open', () => {
    const endpoints = new Endpoints(options, () => 0);
    fail(endpoints.of('a', 'https://x.example/dead'), 3);
    endpoints.of('a', 'https://x.example/well').enter(MANY);
    expect(endpoints.numOpen).toBe(1);
  });
});
