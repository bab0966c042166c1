import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FileStore } from '../../edge/transport/files.ts';
import { HubService } from '../../edge/transport/hub-service.ts';
import { HubTransport } from '../../edge/transport/hub-transport.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { toTenantId } from '../../shared/ids.ts';
import { createFileId, FILE_CHUNK_BYTES, type StoredFile } from '../../shared/protocol/file.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys();
const stack = new AsyncDisposableStack();
const limits = { maxFiles: 3, maxBytes: 1000 };
let redis: TestRedis;
let transport: RedisTransport;
let numTenants = 0;

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  transport = stack.use(await openRedisTransport(redis.url));
});
afterAll(() => stack.disposeAsync());

function overHub(): FileStore {
  const service = new HubService({ connect: async () => transport, onIdle: () => undefined });
  const send = (_: number, body: string) =>
    service.serve(new Request('https://hub/', { method: 'POST', body }));
  return new HubTransport({ numHubs: 1, send }).files;
}

function fileOf(overrides: Partial<StoredFile> = {}): StoredFile {
  const createdMs = Date.now();
  return {
    id: createFileId(createdMs),
    tenant: toTenantId(`tenant-${numTenants}`),
    filename: 'in.jsonl',
    purpose: 'batch',
    createdMs,
    expiresMs: createdMs + 60_000,
    numBytes: 3,
    ...overrides,
  };
}

describe.each([
  ['Redis', () => transport.files],
  ['a hub', overHub],
] as const)('files over %s', (_, open) => {
  const next = () => {
    numTenants += 1;
    return open();
  };

  it('give back every byte', async () => {
    const files = next();
    const file = fileOf();
    const pieces = [randomBytes(FILE_CHUNK_BYTES), randomBytes(FILE_CHUNK_BYTES), randomBytes(5)];
    for (const [i, piece] of pieces.entries()) {
      await files.append(file.id, i, piece);
      await files.append(file.id, i, piece); // sent again
    }
    expect(await files.find(file.id)).toBeNull();
    await files.seal(file, 3);
    await files.seal(file, 3);

    expect(await files.find(file.id)).toEqual(file);
    const read: Uint8Array[] = [];
    for (let page = await files.read(file.id, 0); page.length > 0; ) {
      read.push(...page);
      page = await files.read(file.id, read.length);
    }
    expect(Buffer.concat(read).equals(Buffer.concat(pieces))).toBe(true);
    const refused = { code: 'conflict' };
    await expect(files.append(file.id, 3, pieces[0]!)).rejects.toMatchObject(refused);
  });

  it('leave nothing of an upload that nobody goes on with', async () => {
    const files = next();
    const { id } = fileOf();
    await files.append(id, 0, new Uint8Array(10));
    const { chunks } = keys.file(id);
    const ms = await redis.client.pttl(chunks);
    expect(ms).toBeGreaterThan(0);
    expect(ms).toBeLessThanOrEqual(10 * 60_000);

    await redis.client.del(chunks); // as if that time were over
    await expect(files.append(id, 1, new Uint8Array(1))).rejects.toMatchObject({
      code: 'conflict',
    });
    await expect(files.seal(fileOf({ id }), 2)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('are forgotten when they expire', async () => {
    const files = next();
    const file = fileOf({ expiresMs: Date.now() + 100_000 });
    await files.append(file.id, 0, new Uint8Array(3));
    await files.seal(file, 1);
    const { chunks, meta } = keys.file(file.id);
    for (const key of [chunks, meta]) {
      expect(await redis.client.pexpiretime(key)).toBe(file.expiresMs);
    }
  });

  it('are counted by tenant, as long as they are kept', async () => {
    const files = next();
    const admit = (numBytes: number, overrides: Partial<StoredFile> = {}) =>
      files.admit({ ...fileOf(overrides), ...limits, numBytes });
    const first = fileOf();
    await admit(600, first);
    await admit(500, first); // it was shorter than announced
    await expect(admit(501)).rejects.toThrow('1001 bytes together; the limit is 1000');
    await admit(500, { expiresMs: Date.now() - 1 });
    await admit(500);
    await expect(admit(1)).rejects.toThrow('1000 bytes');
    await files.remove(first);
    for (let i = 0; i < 2; i += 1) await admit(1);
    await expect(admit(1)).rejects.toThrow('number 4 of yours; the limit is 3 files');
  });

  it('are listed by age, complete ones only', async () => {
    const files = next();
    const all = Array.from({ length: 3 }, (_, i) => fileOf({ id: createFileId(1000 + i) }));
    const admitted = { ...limits, numBytes: 1 };
    for (const file of all) await files.admit({ ...file, ...admitted });
    for (const file of [all[0]!, all[2]!]) {
      await files.append(file.id, 0, new Uint8Array(3));
      await files.seal(file, 1);
    }
    const { tenant } = all[0]!;
    const query = { tenant, after: null, limit: 10, isNewestFirst: true, purpose: null };
    expect(await files.list(query)).toEqual([all[2], all[0]]);
    expect(await files.list({ ...query, isNewestFirst: false, limit: 1 })).toEqual([all[0]]);
    expect(await files.list({ ...query, after: all[2]!.id })).toEqual([all[0]]);
    expect(await files.list({ ...query, purpose: 'batch_output' })).toEqual([]);
    await files.remove(all[0]!);
    expect(await files.list(query)).toEqual([all[2]]);
    expect(await files.find(all[0]!.id)).toBeNull();
    expect(await files.read(all[0]!.id, 0)).toEqual([]);
  });
});
