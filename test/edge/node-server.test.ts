import { once } from 'node:events';
import { request } from 'node:http';
import { describe, expect, it, vi } from 'vitest';
import { listen } from '../../edge/node-server.ts';
import { FakeTransport, type Play } from '../support/fake-transport.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { tellStory } from '../support/storyteller.ts';

async function start({
  play = tellStory,
  maxBodyBytes = 4096,
  disconnectGraceMs = 0,
}: {
  play?: Play;
  maxBodyBytes?: number;
  disconnectGraceMs?: number;
} = {}) {
  const transport = new FakeTransport(play);
  transport.register(storiesCard, storiesFiles);
  const app = { maxBodyBytes, disconnectGraceMs, log: () => {} };
  const server = await listen(transport, { port: 0, hostname: '127.0.0.1', app });
  const url = `http://127.0.0.1:${server.port}`;
  const post = (body: object, signal: AbortSignal | null = null) =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'stories-target', prompt: 'Once', ...body }),
      signal,
    });
  return { transport, server, url, post };
}

/** A worker that says one word and then waits to be cancelled. */
function patient() {
  const cancelled = Promise.withResolvers<void>();
  const play: Play = async (_, append, signal) => {
    append({
      type: 'tokens',
      choice: 0,
      tokenIds: [5],
      text: 'Hm',
      logprobs: null,
      finishReason: null,
    });
    if (!signal.aborted) await once(signal, 'abort');
    cancelled.resolve();
  };
  return { play, cancelled: cancelled.promise };
}

describe('the edge on Node', () => {
  it('cancels a stream whose client goes away', async () => {
    const { play, cancelled } = patient();
    const { post, server, transport } = await start({ play });
    const client = new AbortController();
    const response = await post({ stream: true }, client.signal);
    await response.body?.getReader().read();
    client.abort();

    await cancelled;
    expect(transport.cancelled).toEqual([response.headers.get('x-request-id')]);
    await server.close(0);
  });

  it('cancels a plain request whose client goes away', async () => {
    const { play, cancelled } = patient();
    const { post, server, transport } = await start({
      play: async (job, append, signal) => {
        const running = play(job, append, signal);
        client.abort();
        await running;
      },
    });
    const client = new AbortController();

    await expect(post({}, client.signal)).rejects.toThrow('abort');
    await cancelled;
    expect(transport.cancelled).toHaveLength(1);
    await server.close(0);
  });

  it('sees to it when it closes that what a client has left is cancelled', async () => {
    const { play } = patient();
    const { post, server, transport } = await start({ play, disconnectGraceMs: 100 });
    const noteLeft = vi.spyOn(transport, 'noteLeft');
    const client = new AbortController();
    const response = await post({ stream: true }, client.signal);
    client.abort();
    await vi.waitFor(() => expect(noteLeft).toHaveBeenCalled());
    expect(transport.cancelled).toEqual([]);
    await server.close(60_000);

    expect(transport.cancelled).toEqual([response.headers.get('x-request-id')]);
  });

  it('waits for running streams when it closes, and refuses new ones', async () => {
    const finish = Promise.withResolvers<void>();
    const { post, server, url } = await start({
      play: async (job, append, signal) => {
        append({
          type: 'tokens',
          choice: 0,
          tokenIds: [5],
          text: 'A',
          logprobs: null,
          finishReason: null,
        });
        await finish.promise;
        await tellStory(job, append, signal);
      },
    });
    const response = await post({ stream: true, max_tokens: 2 });
    const closed = server.close(60_000);

    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
    finish.resolve();
    expect(await response.text()).toContain('[DONE]');
    await closed;
  });

  it('cuts what is left after the grace period, without cancelling it', async () => {
    const { play } = patient();
    const { post, server, transport } = await start({ play });
    const response = await post({ stream: true });

    await server.close(1);

    await expect(response.text()).rejects.toThrow();
    expect(transport.submitted).toHaveLength(1);
    expect(transport.cancelled).toEqual([]);
  });

  it('answers 413 to a body without a length as soon as it is too long', async () => {
    const { server } = await start({ maxBodyBytes: 1000 });
    const upload = request({
      port: server.port,
      method: 'POST',
      path: '/v1/completions',
      headers: { 'content-type': 'application/json' },
    });
    upload.on('error', () => {}); // it may be cut while it still writes
    upload.write('x'.repeat(2000));

    const [response] = await once(upload, 'response');
    expect(response.statusCode).toBe(413);
    upload.destroy();
    await server.close(0);
  });

  it('says what to do when the port is taken', async () => {
    const { server } = await start();
    const options = { port: server.port, hostname: '127.0.0.1', app: {} };

    await expect(listen(new FakeTransport(), options)).rejects.toThrow(
      `127.0.0.1:${server.port} is taken; stop what listens there or set PORT`,
    );
    await server.close(0);
  });
});
