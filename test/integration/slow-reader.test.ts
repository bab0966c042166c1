import { channel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type EdgeServer, listen } from '../../edge/node-server.ts';
import { EventReader, FIRST_PAGE_SIZE, MAX_BUFFERED } from '../../edge/transport/event-reader.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { toRequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import type { Generator } from '../../worker/queue/generation.ts';
import { register } from '../../worker/queue/registry.ts';
import { parseFrames } from '../support/edge.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator } from '../support/scripted-generator.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { openTestWorker, type TestWorker } from '../support/workers.ts';

const queue = { model: storiesCard.name, fingerprint: storiesCard.fingerprint };
/** Together more than a socket takes in on either side before it waits. */
const NUM_TOKENS = 400;
const TOKEN_LENGTH = 64 * 1024;
let redis: TestRedis;
let transport: RedisTransport;
let worker: TestWorker;
let generator: ScriptedGenerator;
let server: EdgeServer;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
  const registration = { card: storiesCard, tokenizerFiles: storiesFiles, workerId: 'worker' };
  const keys = new Keys();
  await register(redis.client, redis.client, keys, { ...registration, ratePerSecond: () => 0 });
  generator = new ScriptedGenerator('by-hand');
  worker = await openTestWorker(redis.url, verbose(generator), { queue });
  server = await listen(transport, {
    port: 0,
    hostname: '127.0.0.1',
    app: { log: () => undefined },
  });
});
afterAll(async () => {
  vi.restoreAllMocks();
  await server.close(0);
  await worker.stop();
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

/** Tokens of many characters for the request that wants so many of them. */
function verbose(generator: ScriptedGenerator): Generator {
  return {
    start: (job, beginning, listener) =>
      generator.start(job, beginning, (events) =>
        listener(
          events.map((event) =>
            event.type === 'tokens' && job.maxTokens === NUM_TOKENS
              ? { ...event, text: event.text.padEnd(TOKEN_LENGTH, '.') }
              : event,
          ),
        ),
      ),
    proceed: (id) => generator.proceed(id),
    cancel: (id, reason) => generator.cancel(id, reason),
    release: (id) => generator.release(id),
  };
}

/** A client that takes only what its socket takes by itself. @returns its end and the edge's */
async function openPaused(body: object): Promise<{ client: IncomingMessage; socket: Socket }> {
  const accepted = Promise.withResolvers<Socket>();
  const onRequest = (message: unknown) => {
    if (isRequestStart(message)) accepted.resolve(message.socket);
  };
  channel('http.server.request.start').subscribe(onRequest);
  const outgoing = request({
    port: server.port,
    host: '127.0.0.1',
    path: '/v1/completions',
    method: 'POST',
    headers: { 'content-type': 'application/json' },
  });
  outgoing.end(JSON.stringify(body));
  const socket = await accepted.promise;
  channel('http.server.request.start').unsubscribe(onRequest);
  const [client] = await once(outgoing, 'response');
  return { client, socket };
}

function isRequestStart(message: unknown): message is { readonly socket: Socket } {
  return typeof message === 'object' && message !== null && 'socket' in message;
}

/** The most that any reader of the edge ever held, from here on. */
function watchReaders() {
  const peak = { numBuffered: 0, numMessages: 0 };
  const onMessage = EventReader.prototype.onMessage;
  const spy = vi.spyOn(EventReader.prototype, 'onMessage');
  spy.mockImplementation(function (this: EventReader, message) {
    onMessage.call(this, message);
    peak.numMessages += 1;
    peak.numBuffered = Math.max(peak.numBuffered, this.numBuffered);
  });
  return peak;
}

describe('a client that does not read', () => {
  it('holds up neither the worker nor another, fills no memory, and then gets everything', async () => {
    const body = { model: storiesCard.name, prompt: 'Once', seed: 5, stream: true };
    const peak = watchReaders();
    const step = async () => {
      const numMessages = peak.numMessages + generator.numRunning;
      generator.step();
      const isHeard = () => expect(peak.numMessages).toBeGreaterThanOrEqual(numMessages);
      await vi.waitFor(isHeard, { interval: 1 });
    };
    const opening = openPaused({ ...body, max_tokens: NUM_TOKENS });
    await generator.started(1);
    await step(); // headers come with the first event
    const { client, socket } = await opening;
    const id = toRequestId(`${client.headers['x-request-id']}`);
    const other = fetch(`http://127.0.0.1:${server.port}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, max_tokens: NUM_TOKENS - 1 }),
    });
    await generator.started(2);
    while (generator.numRunning > 1) await step();
    // One more token for the client that does not read; its worker sees a reader all the same.
    const channel = new Keys().request(id).events;
    expect(await redis.client.pubsub('NUMSUB', channel)).toEqual([channel, 1]);
    await step();

    const frames = parseFrames(await (await other).text());
    expect(frames.filter(({ data }) => data.choices?.[0]?.text)).toHaveLength(NUM_TOKENS - 1);
    await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe('succeeded'));
    // All is generated. The edge has sent what the sockets take, and holds a buffer, a page and a
    // frame.
    const numBytes = NUM_TOKENS * TOKEN_LENGTH;
    expect(socket.bytesWritten).toBeLessThan(numBytes / 2);
    expect(socket.writableLength).toBeLessThan(2 * TOKEN_LENGTH);
    expect(peak.numBuffered).toBeGreaterThan(MAX_BUFFERED / 2); // nobody took it from there
    expect(peak.numBuffered).toBeLessThan(FIRST_PAGE_SIZE * TOKEN_LENGTH + MAX_BUFFERED);

    let text = '';
    client.setEncoding('utf8');
    for await (const part of client) text += part;
    const replay = await fetch(`http://127.0.0.1:${server.port}/v1/requests/${id}/events`);
    expect(text === (await replay.text())).toBe(true); // no diff of 30 MB, please
    const chunks = parseFrames(text).map(({ data }) => data);
    expect(chunks.pop()).toBe('[DONE]');
    const lengths = chunks.flatMap(({ choices }) => choices).map((choice) => choice.text.length);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(numBytes);
  });
});
