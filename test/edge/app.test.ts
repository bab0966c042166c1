import { describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { toTenantId } from '../../shared/ids.ts';
import { createTestEdge, jsonOf } from '../support/edge.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

describe('health', () => {
  it('is alive whatever Redis does, and ready only when a request would be served', async () => {
    const transport = new FakeTransport();
    const app = createApp(() => transport, { log: () => {} });
    const statusOf = async (path: string) => (await app.request(path)).status;

    expect([await statusOf('/healthz'), await statusOf('/readyz')]).toEqual([200, 503]);
    transport.register(storiesCard, storiesFiles, 0);
    expect([await statusOf('/healthz'), await statusOf('/readyz')]).toEqual([200, 503]);
    transport.register(storiesCard, storiesFiles, 1);
    expect([await statusOf('/healthz'), await statusOf('/readyz')]).toEqual([200, 200]);
    transport.isDown = true;
    expect([await statusOf('/healthz'), await statusOf('/readyz')]).toEqual([200, 503]);
  });
});

describe('GET /v1/models', () => {
  it('lists each model once, under the fingerprint with most workers', async () => {
    const { app, transport } = createTestEdge();
    transport.register({ ...storiesCard, fingerprint: 'fp-other' }, storiesFiles, 3);
    transport.register({ ...storiesCard, name: 'org/asleep' }, storiesFiles, 0);

    const list = await jsonOf(await app.request('/v1/models'));

    expect(list.object).toBe('list');
    expect(list.data).toMatchObject([
      { id: 'stories-target', object: 'model', owned_by: 'rivulet', num_workers: 3 },
      { id: 'org/asleep', num_workers: 0 },
    ]);
    expect(list.data[0]).toMatchObject({ system_fingerprint: 'fp-other', created: 1_700_000_000 });
    expect(await jsonOf(await app.request('/v1/models/stories-target'))).toEqual(list.data[0]);
    expect(await jsonOf(await app.request('/v1/models/org%2Fasleep'))).toEqual(list.data[1]);
    expect(await jsonOf(await app.request('/v1/models/org/asleep'))).toEqual(list.data[1]);
  });

  it('does not know other models', async () => {
    const { app } = createTestEdge();
    const response = await app.request('/v1/models/gpt-4');
    expect(response.status).toBe(404);
    expect((await jsonOf(response)).error).toMatchObject({ code: 'model_not_found' });
  });
});

describe('API keys', () => {
  const apiKeys = new Map([['sk-1', toTenantId('acme')]]);

  it.each([
    [undefined, 401],
    ['Bearer', 401],
    ['Bearer sk-2', 401],
    ['Bearer sk-11', 401],
    ['Basic sk-1', 401],
    ['Bearer sk-1', 200],
    ['bearer sk-1', 200],
  ])('with authorization %s: %i', async (authorization, status) => {
    const { app } = createTestEdge(undefined, { apiKeys });
    const headers = authorization === undefined ? {} : { authorization };

    const response = await app.request('/v1/models', { headers });

    expect(response.status).toBe(status);
    if (status === 200) return;
    expect(response.headers.get('www-authenticate')).toBe('Bearer');
    expect((await jsonOf(response)).error).toMatchObject({
      type: 'authentication_error',
      code: 'invalid_api_key',
    });
  });

  it('are not asked for by health checks', async () => {
    const { app } = createTestEdge(undefined, { apiKeys });
    expect((await app.request('/healthz')).status).toBe(200);
    expect((await app.request('/readyz')).status).toBe(200);
  });
});

describe('every response', () => {
  it('can be read from a browser of any origin, with our headers', async () => {
    const { app } = createTestEdge();
    const origin = { origin: 'https://example.com' };

    const preflight = await app.request('/v1/completions', {
      method: 'OPTIONS',
      headers: { ...origin, 'access-control-request-method': 'POST' },
    });
    const response = await app.request('/v1/models', { headers: origin });

    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-methods')).toContain('POST');
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    expect(response.headers.get('access-control-expose-headers')).toContain('x-request-id');
  });

  it('has an id, and a bug of ours tells the client nothing but that', async () => {
    const logged: unknown[] = [];
    const app = createApp(
      () => {
        throw new Error('secret');
      },
      { log: (event, fields) => logged.push([event, fields]) },
    );

    const response = await app.request('/v1/models');

    expect(response.status).toBe(500);
    const id = response.headers.get('x-request-id');
    expect(id).toMatch(/^req-[0-9a-f]{32}$/);
    expect(await response.json()).toEqual({
      error: { message: 'internal error', type: 'server_error', param: null, code: 'internal' },
    });
    expect(logged).toMatchObject([['request_crashed', { id, cause: { message: 'secret' } }]]);
  });
});
