import { describe, expect, it, vi } from 'vitest';
import { Connection } from '../../edge/connection.ts';
import { PlatformError } from '../../shared/errors.ts';
import { createTestEdge } from '../support/edge.ts';
import { tokensOf } from '../support/transport-conformance.ts';

describe('Connection', () => {
  it('counts a leave once, by whichever way it is noticed', () => {
    let numLeft = 0;
    const client = new AbortController();
    const connection = new Connection(client.signal, () => {
      numLeft += 1;
    });

    connection.leave();
    client.abort();
    connection.leave();

    expect(numLeft).toBe(1);
    expect(connection.signal.aborted).toBe(true);
  });

  it('cannot be left once it is finished', () => {
    let numLeft = 0;
    const client = new AbortController();
    const connection = new Connection(client.signal, () => {
      numLeft += 1;
    });

    connection.finish();
    client.abort();

    expect(numLeft).toBe(0);
  });

  it('is left from the start by a client that is already gone', () => {
    let numLeft = 0;
    new Connection(AbortSignal.abort(), () => {
      numLeft += 1;
    });
    expect(numLeft).toBe(1);
  });
});

describe('a client that goes away', () => {
  const body = { model: 'stories-target', prompt: 'Once', stream: true };

  /** Reads one frame of a stream, then leaves it. */
  async function leave(onDisconnect: object, shutdown = new AbortController()) {
    const edge = createTestEdge(null, { shutdown: shutdown.signal });
    const submitted = edge.transport.nextSubmission();
    const pending = edge.post('/v1/completions', { ...body, ...onDisconnect });
    const { id } = await submitted;
    edge.transport.append(id, edge.transport.claim(id), tokensOf('Hi'));
    const response = await pending;
    const reader = response.body!.getReader();
    await reader.read();
    return { ...edge, id, reader };
  }

  it('cancels its request by default', async () => {
    const { id, reader, transport } = await leave({});
    const cancelled = transport.cancellation(id);
    const aborted = new Promise((resolve) => cancelled.addEventListener('abort', resolve));
    await reader.cancel();
    await aborted;
    expect(transport.cancelled).toEqual([id]);
  });

  it.each([
    ['cancel', 'cancelled'],
    ['continue', 'queued'],
  ])('before its request is queued: with %s it is %s', async (onDisconnect, status) => {
    const { app, transport } = createTestEdge(null);
    const response = await app.request('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, stream: false, on_disconnect: onDisconnect }),
      signal: AbortSignal.abort(),
    });

    expect(response.status).toBe(499);
    const id = transport.submitted[0]!.id;
    await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe(status));
  });

  it('leaves its request running if it said so', async () => {
    const { id, reader, transport } = await leave({ on_disconnect: 'continue' });
    await reader.cancel();
    transport.append(id, 1, tokensOf(' there'));
    expect(transport.cancelled).toEqual([]);
  });

  it('has its request cancelled though Redis was away when it left', async () => {
    const { id, reader, transport } = await leave({});
    transport.isDown = true;
    await reader.cancel();
    setTimeout(() => {
      transport.isDown = false;
    }, 10);

    await vi.waitFor(() => expect(transport.cancelled).toEqual([id]), { timeout: 5000 });
  });

  it('leaves its request running if it was the server that cut the connection', async () => {
    const shutdown = new AbortController();
    const { id, reader, transport } = await leave({}, shutdown);
    shutdown.abort();
    await reader.cancel();
    transport.append(id, 1, tokensOf(' there'));
    expect(transport.cancelled).toEqual([]);
  });
});

describe('a submission that fails half-way', () => {
  const body = { model: 'stories-target', prompt: 'Once' };
  const job = { endpoint: '/v1/completions', body, webhook: { url: 'https://example.com/hook' } };

  /** An edge whose transport queues a job, and says that it could not. */
  function openEdge() {
    const edge = createTestEdge(null);
    const { transport } = edge;
    const submit = transport.submit.bind(transport);
    transport.submit = async (...args) => {
      await submit(...args);
      throw new PlatformError('unavailable', 'no reply');
    };
    return edge;
  }

  it.each([
    ['/v1/completions', body],
    ['/v1/completions', { ...body, on_disconnect: 'continue' }],
    ['/v1/jobs', job],
  ])('is called off, for its client sends another: %s %j', async (path, fields) => {
    const { post, transport } = openEdge();

    expect((await post(path, fields)).status).toBe(503);

    const { id } = transport.submitted[0]!;
    await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe('cancelled'));
  });

  it.each([
    ['/v1/completions', body],
    ['/v1/jobs', job],
  ])('is left to its client if that comes again with its key: %s', async (path, fields) => {
    const { post, transport } = openEdge();

    expect((await post(path, fields, { 'idempotency-key': 'a' })).status).toBe(503);
    expect((await post(path, fields, { 'idempotency-key': 'a' })).status).toBe(503);

    expect(transport.submitted).toHaveLength(1);
    expect(transport.cancelled).toEqual([]);
  });
});
