import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApp } from '../../edge/app.ts';
import type { FileStore } from '../../edge/transport/files.ts';
import type { Transport } from '../../edge/transport/transport.ts';
import { PlatformError } from '../../shared/errors.ts';
import { toRequestId, toTenantId } from '../../shared/ids.ts';
import type { BatchSpec } from '../../shared/protocol/batch.ts';
import { FILE_CHUNK_BYTES } from '../../shared/protocol/file.ts';
import { jsonOf } from './edge.ts';
import { doneOf } from './fake-transport.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { type TransportHarness, tokensOf } from './transport-conformance.ts';

const limits = {
  maxBytes: 10_000_000,
  maxFiles: 2,
  maxTenantBytes: 20_000_000,
  lifeMs: 172_800_000,
};
const base = { endpoint: '/v1/completions', completion_window: '24h' };
const completion = { model: storiesCard.name, prompt: 'Once' };
/** Several pieces of the store. */
const long = 'x\n'.repeat(FILE_CHUNK_BYTES);

/** An app for one tenant over some transport. */
function openApp(transport: Transport, tenant: string, now = Date.now) {
  const apiKeys = new Map([['key', toTenantId(tenant)]]);
  const app = createApp(() => transport, { apiKeys, files: limits, now, log: () => undefined });
  const authorization = 'Bearer key';
  const call = (path: string, method = 'GET') =>
    app.request(path, { method, headers: { authorization } });
  const upload = (text: string, key: string, fields: Record<string, string> = {}) => {
    const body = new FormData();
    body.set('file', new Blob([text]), 'in.jsonl');
    for (const [name, value] of Object.entries({ purpose: 'batch', ...fields }))
      body.set(name, value);
    const headers = { authorization, 'idempotency-key': key };
    return app.request('/v1/files', { method: 'POST', headers, body });
  };
  const post = async (path: string, body: object, key: string) =>
    app.request(path, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    });
  const createBatch = (fields: object, key: string) =>
    post('/v1/batches', { ...base, ...fields }, key);
  const idsAt = async (path: string) =>
    (await jsonOf(await call(path))).data.map(({ id }: { id: string }) => id);
  return { call, post, upload, createBatch, idsAt };
}

/** The same transport, but for the call that completes a file. */
function withSeal(transport: Transport, seal: FileStore['seal']): Transport {
  const files = override(transport.files, 'seal', seal);
  return override(transport, 'files', files);
}

function override<Target extends object>(target: Target, member: keyof Target, value: unknown) {
  return new Proxy(target, {
    get(_, name) {
      const own: unknown = name === member ? value : Reflect.get(target, name);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}

const gone = () => Promise.reject(new PlatformError('unavailable', 'gone'));

/** A transport over which no call goes on before so many have reserved the key of theirs. */
function withBarrier(transport: Transport, numCalls: number) {
  const reserved = Promise.withResolvers<string>();
  let numReserved = 0;
  const reserve: Transport['reserve'] = async (reservation) => {
    const id = await transport.reserve(reservation);
    numReserved += 1;
    if (numReserved === numCalls) reserved.resolve(id);
    return reserved.promise;
  };
  const id = reserved.promise.then(toRequestId);
  return { transport: override(transport, 'reserve', reserve), id };
}

/** What an `Idempotency-Key` means, whatever holds requests, files and batches. */
export function describeIdempotency(name: string, open: () => Promise<TransportHarness>): void {
  describe(`an Idempotency-Key over ${name}`, () => {
    let harness: Awaited<ReturnType<typeof open>>;
    let numTenants = 0;
    beforeAll(async () => {
      harness = await open();
      await harness.register(storiesCard, storiesFiles);
    });
    afterAll(() => harness?.[Symbol.asyncDispose]());

    const next = () => {
      numTenants += 1;
      const tenant = `tenant-${numTenants}`;
      return { ...openApp(harness.transport, tenant), tenant };
    };
    const expectMismatch = async (response: Response) => {
      expect(response.status).toBe(422);
      expect((await jsonOf(response)).error.code).toBe('idempotency_mismatch');
    };

    it('makes one request of calls that come at once, and answers all with what it is', async () => {
      const { transport, id } = withBarrier(harness.transport, 3);
      const { post } = openApp(transport, next().tenant);
      const answers = [1, 2, 3].map(() => post('/v1/completions', completion, 'a'));
      await vi.waitFor(async () => expect(await transport.request(await id)).not.toBeNull());
      const events = [tokensOf('a', 'stop'), doneOf({ promptTokens: 1, completionTokens: 1 })];
      await harness.append(await id, await harness.claim(await id), events);

      const seed = (await transport.request(await id))?.job.sampling.seed;
      for (const answer of await Promise.all(answers)) {
        expect(answer.headers.get('x-request-id')).toBe(await id);
        expect(answer.headers.get('x-seed')).toBe(`${seed}`);
        expect(await jsonOf(answer)).toMatchObject({ id: await id, seed });
      }
    });

    it('makes one job of calls that come at once, with the secret that signs', async () => {
      const { transport, id } = withBarrier(harness.transport, 3);
      const { post } = openApp(transport, next().tenant);
      const webhook = { url: 'https://example.com/hook' };
      const job = { endpoint: '/v1/completions', body: completion, webhook };
      const answers = await Promise.all([1, 2, 3].map(() => post('/v1/jobs', job, 'a')));

      const { job: standing } = (await transport.request(await id))!;
      for (const answer of answers) {
        expect(await jsonOf(answer)).toMatchObject({
          id: await id,
          seed: standing.sampling.seed,
          webhook: { secret: standing.webhook?.secret },
        });
      }
    });

    it('is asked of a cancel as well, which may be repeated', async () => {
      const { post, call } = next();
      const submit = async (key: string) => {
        const job = { endpoint: '/v1/completions', body: completion };
        const { id } = await jsonOf(await post('/v1/jobs', job, key));
        return [`/v1/jobs/${id}/cancel`, `/v1/requests/${id}/cancel`] as const;
      };
      const [asJob, asRequest] = await submit('a');
      for (const path of [asJob, asRequest, asJob, asRequest]) {
        const answer = await post(path, {}, path === asJob ? 'b' : 'c');
        expect(await jsonOf(answer)).toMatchObject({ status: 'cancelled' });
      }
      const [otherJob, otherRequest] = await submit('d');
      await expectMismatch(await post(otherJob, {}, 'b'));
      await expectMismatch(await post(otherRequest, {}, 'c'));
      const other = await call(otherJob.slice(0, -'/cancel'.length));
      expect(await jsonOf(other)).toMatchObject({ status: 'queued' });
    });

    it('answers a retry of an upload with the first file, and keeps nothing of it', async () => {
      const { upload, idsAt, call } = next();
      const first = await jsonOf(await upload(long, 'a'));
      // More than the tenant may have: each gives back what it took.
      for (let i = 0; i < 3; i += 1) {
        const again = await upload(long, 'a');
        expect(again.status).toBe(200);
        expect(await jsonOf(again)).toEqual(first);
      }
      expect(await idsAt('/v1/files')).toEqual([first.id]);
      expect(await (await call(`/v1/files/${first.id}/content`)).text()).toBe(long);
      const other = await jsonOf(await upload(long, 'b'));
      expect(other.id).not.toBe(first.id);
    });

    it('refuses other bytes or fields, and keeps nothing of them', async () => {
      const { upload, idsAt } = next();
      const { id } = await jsonOf(await upload(long, 'a'));
      const last = `${long.slice(0, -1)}y`;
      await expectMismatch(await upload(last, 'a'));
      await expectMismatch(await upload(`y${long.slice(1)}`, 'a'));
      await expectMismatch(await upload(`${long}\n`, 'a'));
      const expiry = { 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': '7200' };
      await expectMismatch(await upload(long, 'a', expiry));
      expect(await idsAt('/v1/files')).toEqual([id]);
      expect((await upload(last, 'b')).status).toBe(200); // there is still room for one
    });

    it('refuses a malformed key before anything is read', async () => {
      const { upload, createBatch, idsAt } = next();
      expect((await upload('{}', 'x'.repeat(256))).status).toBe(400);
      expect((await createBatch({ input_file_id: 'file-x' }, 'x'.repeat(256))).status).toBe(400);
      expect(await idsAt('/v1/files')).toEqual([]);
    });

    it('makes one file of uploads that come at once', async () => {
      const { upload, idsAt } = next();
      const answers = await Promise.all([upload(long, 'a'), upload(long, 'a')]);
      const files = await Promise.all(answers.map(jsonOf));
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      expect(files[1]).toEqual(files[0]);
      expect(await idsAt('/v1/files')).toEqual([files[0].id]);
    });

    it('completes a file whose first call did not', async () => {
      const { transport } = harness;
      const { upload, idsAt, tenant } = next();
      expect((await openApp(withSeal(transport, gone), tenant).upload(long, 'a')).status).toBe(503);
      expect(await idsAt('/v1/files')).toEqual([]);
      const { id } = await jsonOf(await upload(long, 'a'));
      expect(await idsAt('/v1/files')).toEqual([id]);
      await expectMismatch(await upload('{}', 'a'));
    });

    it('makes a file that was deleted anew, in the room that it leaves', async () => {
      const { upload, call, idsAt } = next();
      const { id } = await jsonOf(await upload(long, 'a'));
      const { id: other } = await jsonOf(await upload('{}', 'b'));
      expect((await call(`/v1/files/${id}`, 'DELETE')).status).toBe(200);
      expect(await jsonOf(await upload(long, 'a'))).toMatchObject({ id, bytes: long.length });
      expect(await (await call(`/v1/files/${id}/content`)).text()).toBe(long);
      expect((await idsAt('/v1/files')).toSorted()).toEqual([id, other].toSorted());
    });

    it.each([
      ['fails', 503],
      ['succeeds', 200],
    ])('keeps what a retry completed before the first call %s', async (_, status) => {
      const { transport } = harness;
      const { upload, call, tenant } = next();
      const retries: Response[] = [];
      const slow = withSeal(transport, async (file, numPieces) => {
        retries.push(await upload(long, 'a'));
        await (status === 503 ? gone() : transport.files.seal(file, numPieces));
      });
      const aMinuteAgo = () => Date.now() - 60_000;
      const answer = await openApp(slow, tenant, aMinuteAgo).upload(long, 'a');
      expect(answer.status).toBe(status);
      const retried = await jsonOf(retries[0]!);
      expect(await jsonOf(await call(`/v1/files/${retried.id}`))).toEqual(retried);
      expect(await (await call(`/v1/files/${retried.id}/content`)).text()).toBe(long);
      expect(retried.created_at).toBeGreaterThan(aMinuteAgo() / 1000 + 30);
      if (status === 200) expect(await jsonOf(answer)).toEqual(retried);
    });

    it('answers a retry of a batch with the first one, its input gone or not', async () => {
      const { upload, createBatch, call, idsAt } = next();
      const { id: inputFileId } = await jsonOf(await upload('{}\n', 'a'));
      const webhook = { url: 'https://example.com/hook', events: ['batch.completed'] };
      const fields = { input_file_id: inputFileId, webhook };
      const first = await jsonOf(await createBatch(fields, 'b'));
      expect(first.webhook.secret).toMatch(/^whsec_/);
      expect(await jsonOf(await createBatch(fields, 'b'))).toEqual(first);
      await expectMismatch(await createBatch({ ...fields, metadata: { a: 'b' } }, 'b'));
      await expectMismatch(await createBatch(fields, 'a')); // the upload's
      await call(`/v1/files/${inputFileId}`, 'DELETE');
      expect(await jsonOf(await createBatch(fields, 'b'))).toEqual(first);
      expect((await createBatch(fields, 'c')).status).toBe(400);
      expect(await idsAt('/v1/batches')).toEqual([first.id]);
    });

    it('queues a batch again that nobody has begun: its first call may have died before', async () => {
      const { transport } = harness;
      const { upload, tenant } = next();
      const created: string[] = [];
      const create = async (spec: BatchSpec, maxOpen: number) => {
        created.push(JSON.stringify(spec));
        await transport.batches.create(spec, maxOpen);
      };
      const batches = override(transport.batches, 'create', create);
      const { createBatch } = openApp(override(transport, 'batches', batches), tenant);
      const { id: inputFileId } = await jsonOf(await upload('{}\n', 'a'));
      const fields = { input_file_id: inputFileId };
      const first = await jsonOf(await createBatch(fields, 'b'));
      expect(await jsonOf(await createBatch(fields, 'b'))).toEqual(first);
      expect(created).toHaveLength(2);
      expect(created[1]).toBe(created[0]);
    });

    it('makes one batch of calls that come at once', async () => {
      const { upload, createBatch, idsAt } = next();
      const { id: inputFileId } = await jsonOf(await upload('{}\n', 'a'));
      const webhook = { url: 'https://example.com/hook', events: ['batch.completed'] };
      const create = () => createBatch({ input_file_id: inputFileId, webhook }, 'b');
      const made = await Promise.all(
        [create(), create(), create()].map(async (c) => jsonOf(await c)),
      );
      expect(new Set(made.map((batch) => JSON.stringify(batch))).size).toBe(1);
      expect(await idsAt('/v1/batches')).toEqual([made[0].id]);
    });
  });
}
