import { describe, expect, it } from 'vitest';
import { Endpoint, Endpoints, type Entry, type Visit } from '../../../worker/webhooks/endpoint.ts';

const options = { maxConcurrent: 2, maxFailures: 3, openMs: 1000, maxOpenMs: 3000 };
const ok = { isAlive: true, durationMs: 10 };
const failed = { isAlive: false, durationMs: 10 };
const MANY = 100;

function open() {
  const clock = { ms: 0 };
  return { clock, endpoint: new Endpoint(options, () => clock.ms) };
}

/** @returns ends the visit */
function entered(entry: Entry): (visit: Visit) => void {
  if (entry.type !== 'entered') throw new Error(entry.type);
  return entry.leave;
}

function waitsOf(endpoint: Endpoint): unknown[] {
  return [1, 2, 3].map(() => endpoint.enter(MANY)).map((e) => 'afterMs' in e && e.afterMs);
}

function fail(enter: () => Entry, times: number): void {
  for (let i = 0; i < times; i += 1) entered(enter())(failed);
}

describe('Endpoint', () => {
  it('lets in as many as it may have at a time', () => {
    const { endpoint } = open();
    const leave = entered(endpoint.enter(MANY));
    expect([1, 2].map(() => endpoint.enter(MANY).type)).toEqual(['entered', 'busy']);
    leave(ok);
    expect(endpoint.enter(MANY).type).toBe('entered');
  });

  it('takes no second place while few are left', () => {
    const { endpoint } = open();
    expect([1, 2].map(() => endpoint.enter(1).type)).toEqual(['entered', 'busy']);
  });

  it('sends those that wait back one after the other', () => {
    const { endpoint } = open();
    endpoint.enter(MANY);
    endpoint.enter(MANY);
    expect(waitsOf(endpoint)).toEqual([8, 16, 24]); // 20 / 2 places * 0.8
  });

  it('knows how long to wait from the first delivery that it timed', () => {
    const { endpoint } = open();
    entered(endpoint.enter(MANY))({ isAlive: true, durationMs: 500 });
    endpoint.enter(MANY);
    const leave = entered(endpoint.enter(MANY));
    expect(waitsOf(endpoint)).toEqual([200, 400, 600]);

    leave({ isAlive: true, durationMs: 1000 });
    endpoint.enter(MANY);
    expect(waitsOf(endpoint)).toEqual([900, 1200, 1500]); // behind them, at 750 each
  });

  it('opens after failures in a row, and not after as many with a success between', () => {
    const { endpoint } = open();
    const enter = () => endpoint.enter(MANY);
    fail(enter, 2);
    entered(enter())(ok);
    fail(enter, 2);
    expect(endpoint.state).toBe('closed');
    fail(enter, 1);
    expect(endpoint.state).toBe('open');
    expect(enter()).toEqual({ type: 'open', afterMs: 1000 });
  });

  it('probes with one delivery once its time is over, and closes when that succeeds', () => {
    const { endpoint, clock } = open();
    fail(() => endpoint.enter(MANY), 3);
    clock.ms = 1000;
    expect(endpoint.state).toBe('half-open');
    const leave = entered(endpoint.enter(MANY));
    expect(endpoint.enter(MANY).type).toBe('open');
    leave(ok);
    expect(endpoint.state).toBe('closed');
    expect(endpoint.enter(MANY).type).toBe('entered');
  });

  it('stays open for twice as long after each probe that failed, up to a bound', () => {
    const { endpoint, clock } = open();
    fail(() => endpoint.enter(MANY), 3);
    const waits = [1, 2, 3].map((_) => {
      clock.ms += 10_000;
      entered(endpoint.enter(MANY))(failed);
      const entry = endpoint.enter(MANY);
      return 'afterMs' in entry && entry.afterMs;
    });
    expect(waits).toEqual([2000, 3000, 3000]);
  });

  it('does not take what was on its way before for its probe', () => {
    const { endpoint, clock } = open();
    const leaveEarly = entered(endpoint.enter(MANY));
    fail(() => endpoint.enter(MANY), 3);
    clock.ms = 1000;
    const leaveProbe = entered(endpoint.enter(MANY));
    leaveEarly(failed);
    expect(endpoint.enter(MANY).type).toBe('open');
    leaveProbe(ok);
    expect(endpoint.state).toBe('closed');
  });
});

describe('Endpoints', () => {
  const hook = (tenant: string, url: string) => ({ tenant, url });

  function openAll() {
    const clock = { ms: 0 };
    return { clock, endpoints: new Endpoints(options, () => clock.ms) };
  }

  it('take a host for one receiver, whatever its path, and tenants for others', () => {
    const { endpoints } = openAll();
    const enter = (tenant: string, url: string) => endpoints.enter(hook(tenant, url), MANY).type;
    expect(enter('a', 'https://x.example/hook?id=1')).toBe('entered');
    expect(enter('a', 'https://x.example/other')).toBe('entered');
    expect(enter('a', 'https://x.example/a-third')).toBe('busy');
    expect(enter('a', 'https://x.example:8443/hook')).toBe('entered');
    expect(enter('b', 'https://x.example/hook?id=1')).toBe('entered');
  });

  it('leave a place for others, however many hosts a tenant has', () => {
    const { endpoints } = openAll();
    let numFree = 30;
    const fill = (tenant: string) => {
      const before = numFree;
      for (let i = 0; i < 100; i += 1) {
        const { type } = endpoints.enter(hook(tenant, `https://h${i}.example/`), numFree);
        if (type === 'entered') numFree -= 1;
      }
      return before - numFree;
    };
    expect([fill('a'), fill('b'), fill('c')]).toEqual([10, 7, 4]);
  });

  it('give a tenant its place back when a delivery is over', () => {
    const { endpoints } = openAll();
    const enter = (i: number) => endpoints.enter(hook('a', `https://h${i}.example/`), 2);
    const leave = entered(enter(1));
    expect(enter(2).type).toBe('busy');
    leave(failed);
    expect(enter(3).type).toBe('entered');
  });

  it('count those whose breaker is open', () => {
    const { endpoints } = openAll();
    fail(() => endpoints.enter(hook('a', 'https://dead.example/'), MANY), 3);
    endpoints.enter(hook('a', 'https://well.example/'), MANY);
    expect(endpoints.numOpen).toBe(1);
  });

  it('forget a receiver that nothing came for, though it failed, and no open one before its probe', () => {
    const { endpoints, clock } = openAll();
    fail(() => endpoints.enter(hook('a', 'https://dead.example/'), MANY), 3);
    clock.ms = 5999;
    endpoints.enter(hook('a', 'https://well.example/'), MANY);
    expect(endpoints.size).toBe(2);
    clock.ms = 6000;
    endpoints.enter(hook('a', 'https://well.example/'), MANY);
    expect([endpoints.size, endpoints.numOpen]).toEqual([1, 0]);
  });
});
