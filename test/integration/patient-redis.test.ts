import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatientRedis } from '../../worker/queue/patient-redis.ts';
import { createLog, watchedLog } from '../../worker/telemetry/log.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

let redis: TestRedis;
let numWarnings = 0;
const log = watchedLog(createLog('silent'), () => {
  numWarnings += 1;
});

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

/** Refuses twice, as a Redis that is not able yet. */
const REFUSE_TWICE = `
if redis.call('INCR', KEYS[1]) <= 2 then return redis.error_reply(ARGV[1]) end
return 'done'`;

describe('PatientRedis', () => {
  it.each([
    'LOADING Redis is loading the dataset in memory',
    'MASTERDOWN Link with MASTER is down',
  ])('asks again after %s', async (refusal) => {
    numWarnings = 0;
    const patient = new PatientRedis(redis.client, log);
    const [code = ''] = refusal.split(' ');

    expect(await patient.ask((client) => client.eval(REFUSE_TWICE, 1, code, refusal))).toBe('done');
    expect(numWarnings).toBe(2);
  });

  it('asks again when the connection was lost between the commands of one packet', async () => {
    const patient = new PatientRedis(redis.client, log);
    let numCalls = 0;
    const answer = patient.ask(async () => {
      numCalls += 1;
      if (numCalls === 1) throw new Error('Command aborted due to connection close');
      return 'done';
    });
    expect(await answer).toBe('done');
  });

  it('does not ask again what is refused for good, nor over a connection that is closed', async () => {
    const client = redis.connect();
    const patient = new PatientRedis(client, log);
    await client.set('text', 'x');

    await expect(patient.ask((each) => each.llen('text'))).rejects.toThrow('WRONGTYPE');
    client.disconnect();
    await expect(patient.ask((each) => each.get('text'))).rejects.toThrow('Connection is closed');
  });
});
