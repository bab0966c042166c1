import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../edge/config.ts';

const REDIS_URL = 'redis://127.0.0.1:6379';

describe('loadConfig', () => {
  it('needs to know only where Redis is', () => {
    expect(loadConfig({ REDIS_URL })).toEqual({
      port: 8787,
      hostname: '0.0.0.0',
      redisUrl: REDIS_URL,
      graceMs: 10_000,
      maxQueued: 1024,
      retentionMs: 3_600_000,
      app: {
        apiKeys: null,
        maxBodyBytes: 8_388_608,
        files: {
          maxBytes: 100_000_000,
          maxFiles: 1000,
          maxTenantBytes: 1_000_000_000,
          lifeMs: 2_592_000_000,
        },
        maxOpenBatches: 100,
        webhooks: { isInsecureAllowed: false, tenantsWithSecret: new Set() },
        jobRetentionMs: 86_400_000,
        heartbeatMs: 15_000,
        disconnectGraceMs: 5000,
      },
    });
  });

  it('reads pairs of key and tenant', () => {
    const { app } = loadConfig({ REDIS_URL, API_KEYS: 'sk-1:acme, sk:2:globex' });
    expect(app.apiKeys).toEqual(
      new Map([
        ['sk-1', 'acme'],
        ['sk:2', 'globex'],
      ]),
    );
  });

  it('knows whose webhooks are signed with a secret of the operator, and no secret', () => {
    const secret = `whsec_${btoa('a secret of at least 24 bytes!')}`;
    const WEBHOOK_SECRETS = `acme:${secret}, globex:${secret},acme:${secret}`;
    const { app } = loadConfig({ REDIS_URL, WEBHOOK_SECRETS, ALLOW_INSECURE_WEBHOOKS: 'true' });
    const tenantsWithSecret = new Set(['acme', 'globex']);
    expect(app.webhooks).toEqual({ isInsecureAllowed: true, tenantsWithSecret });
  });

  it.each(['acme', 'acme:hunter2', 'acme:whsec_c2hvcnQ=', ':whsec_'])(
    'refuses WEBHOOK_SECRETS %j',
    (WEBHOOK_SECRETS) => {
      expect(() => loadConfig({ REDIS_URL, WEBHOOK_SECRETS })).toThrow('WEBHOOK_SECRETS');
    },
  );

  it('lists everything that is wrong', () => {
    const environment = { PORT: '99999', API_KEYS: 'no-tenant', REDIS_URL: 'http://x' };
    for (const name of Object.keys(environment)) {
      expect(() => loadConfig(environment)).toThrow(name);
    }
  });

  it.each(['', 'a', 'a:', ':b', 'a:b,', 'a:b,a:c', 'a b:c'])('refuses API_KEYS %j', (API_KEYS) => {
    expect(() => loadConfig({ REDIS_URL, API_KEYS })).toThrow('API_KEYS');
  });
});
