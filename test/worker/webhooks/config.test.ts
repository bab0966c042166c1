import { describe, expect, it } from 'vitest';
import { loadWebhooksConfig } from '../../../worker/webhooks/config.ts';

const REDIS_URL = 'redis://127.0.0.1:6379';
const secret = `whsec_${Buffer.from('a secret of at least 24 bytes!').toString('base64')}`;

describe('loadWebhooksConfig', () => {
  it('tries over days unless told otherwise, and by https alone', () => {
    const { scheduleMs, isInsecureAllowed, timeoutMs } = loadWebhooksConfig({ REDIS_URL });
    const days = scheduleMs.reduce((sum, ms) => sum + ms, 0) / 86_400_000;
    expect(days).toBeGreaterThan(3);
    expect(scheduleMs[0]).toBe(5000);
    expect([isInsecureAllowed, timeoutMs]).toEqual([false, 15_000]);
  });

  it('reads a schedule in seconds', () => {
    const { scheduleMs } = loadWebhooksConfig({ REDIS_URL, WEBHOOK_RETRY_SECONDS: '0.5, 60' });
    expect(scheduleMs).toEqual([500, 60_000]);
  });

  it('reads several secrets of a tenant', () => {
    const WEBHOOK_SECRETS = `a:${secret}, b:x:${secret},a:${secret}`;
    const { secretsByTenant } = loadWebhooksConfig({ REDIS_URL, WEBHOOK_SECRETS });
    expect([...secretsByTenant]).toEqual([
      ['a', [secret, secret]],
      ['b:x', [secret]],
    ]);
  });

  it.each([
    ['WEBHOOK_RETRY_SECONDS', '5,soon'],
    ['WEBHOOK_RETRY_SECONDS', '5,,6'],
    ['WEBHOOK_RETRY_SECONDS', '0'],
    ['WEBHOOK_SECRETS', 'a:not-a-secret'],
    ['WEBHOOK_SECRETS', 'a:whsec_c2hvcnQ='],
    ['ALLOW_INSECURE_WEBHOOKS', 'perhaps'],
    ['LOCK_MS', '10'],
  ])('names %s when it is %s', (name, value) => {
    expect(() => loadWebhooksConfig({ REDIS_URL, [name]: value })).toThrow(name);
  });
});
