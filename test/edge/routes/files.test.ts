import { describe, expect, it } from 'vitest';
import type { FileClaim } from '../../../edge/transport/files.ts';
import { toTenantId } from '../../../shared/ids.ts';
import { createTestEdge, jsonOf } from '../../support/edge.ts';

const BOUNDARY = 'x-boundary-x';
const contentType = `multipart/form-data; boundary=${BOUNDARY}`;

interface Part {
  readonly name: string;
  readonly filename?: string;
  readonly value: string;
}

function formOf(parts: readonly Part[]): string {
  const texts = parts.map(({ name, filename, value }) => {
    const file = filename === undefined ? '' : `; filename="${filename}"`;
    const type = filename === undefined ? '' : '\r\ncontent-type: application/octet-stream';
    return `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"${file}${type}\r\n\r\n${value}\r\n`;
  });
  return `${texts.join('')}--${BOUNDARY}--\r\n`;
}

/** A body that comes in pieces of one size. */
function inPieces(text: string, size: number): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  let start = 0;
  return new ReadableStream({
    pull(controller) {
      if (start >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(start, start + size));
      start += size;
    },
  });
}

const limits = { maxBytes: 1_000_000, maxFiles: 3, maxTenantBytes: 1_500_000, lifeMs: 1000 };
const purpose = { name: 'purpose', value: 'batch' };
const file = (value: string) => ({ name: 'file', filename: 'input.jsonl', value });

function openEdge() {
  const apiKeys = new Map([
    ['ann', toTenantId('ann')],
    ['bob', toTenantId('bob')],
  ]);
  const edge = createTestEdge(null, { files: limits, apiKeys });
  const call = (path: string, method = 'GET', key = 'ann') =>
    edge.app.request(path, { method, headers: { authorization: `Bearer ${key}` } });
  const upload = (
    body: string | ReadableStream<Uint8Array>,
    headers: Record<string, string> = {},
  ) =>
    edge.app.request('/v1/files', {
      method: 'POST',
      headers: { authorization: 'Bearer ann', 'content-type': contentType, ...headers },
      body,
      duplex: 'half',
    });
  return { ...edge, call, upload };
}

/** As long as several pieces of the store, and with what looks like boundaries. */
const long = `\r\n--x-bound\r\n${'0123456789abcdef\n'.repeat(40_000)}--${BOUNDARY}-ä`;

describe('files', () => {
  it.each([1, 7, 64 * 1024, 10_000_000])(
    'keeps every byte of a body that comes in pieces of %i',
    async (size) => {
      const { upload, call } = openEdge();
      const text = size === 1 ? long.slice(0, 5000) : long;
      const response = await upload(inPieces(formOf([purpose, file(text)]), size));
      const object = await jsonOf(response);

      expect(response.status).toBe(200);
      expect(object).toMatchObject({
        object: 'file',
        bytes: new TextEncoder().encode(text).length,
        filename: 'input.jsonl',
        purpose: 'batch',
        created_at: 1_700_000_000,
        expires_at: 1_700_000_001,
      });
      expect(await (await call(`/v1/files/${object.id}/content`)).text()).toBe(text);
    },
  );

  it('takes a short form in pieces of any size', async () => {
    const { upload, call } = openEdge();
    const form = formOf([purpose, file('{}')]);
    const statuses: number[] = [];
    for (let size = 1; size <= form.length; size += 1) {
      const { id } = await jsonOf(await upload(inPieces(form, size)));
      statuses.push((await call(`/v1/files/${id}`, 'DELETE')).status);
    }
    expect(new Set(statuses)).toEqual(new Set([200]));
  });

  it('takes the fields behind the file, too, and honors expires_after', async () => {
    const { upload } = openEdge();
    const expiry = [
      { name: 'expires_after[anchor]', value: 'created_at' },
      { name: 'expires_after[seconds]', value: '3600' },
    ];
    const object = await jsonOf(await upload(formOf([file('{}'), purpose, ...expiry])));
    expect(object.expires_at).toBe(1_700_003_600);
  });

  const beside = (filename: string, extended: string) =>
    formOf([purpose, file('{}')]).replace(
      'filename="input.jsonl"',
      `filename="${filename}"; filename*=${extended}`,
    );
  it.each([
    [
      '日本語 – données.jsonl',
      formOf([purpose, { ...file('{}'), filename: '日本語 – données.jsonl' }]),
    ],
    ['a"b\\c.jsonl', formOf([purpose, { ...file('{}'), filename: 'a%22b\\c.jsonl' }])],
    ['a"b.jsonl', formOf([purpose, { ...file('{}'), filename: 'a\\"b.jsonl' }])],
    ['€.jsonl', beside('euro.jsonl', "UTF-8''%E2%82%AC.jsonl")],
    ['€.jsonl', beside('日本', "utf-8'en'%E2%82%AC.jsonl")],
    ['日本', beside('日本', "UTF-8''%ZZ")],
    [
      `${'x'.repeat(254)}\ufffd`,
      formOf([purpose, { ...file('{}'), filename: `${'x'.repeat(254)}🐈` }]),
    ],
  ])('keeps the name %s, and gives it with the content', async (filename, form) => {
    const { upload, call } = openEdge();
    const object = await jsonOf(await upload(inPieces(form, 7)));
    expect(object.filename).toBe(filename);
    const content = await call(`/v1/files/${object.id}/content`);
    expect(content.status).toBe(200);
    const disposition = content.headers.get('content-disposition') ?? '';
    expect(decodeURIComponent(disposition.split("''")[1] ?? '')).toBe(filename);
  });

  it.each([
    ['no purpose', formOf([file('{}')]), 400, 'purpose'],
    ['another purpose', formOf([{ ...purpose, value: 'vision' }, file('{}')]), 400, 'purpose'],
    ['no file', formOf([purpose]), 400, 'file'],
    ['an empty file', formOf([purpose, file('')]), 400, 'file'],
    ['an unreadable name', beside('a.jsonl', "UTF-8''%ZZ"), 400, null],
    [
      'a part without a name',
      formOf([purpose, file('a')]).replace('name="purpose"', 'nam=""'),
      400,
      null,
    ],
    ['two files', formOf([purpose, file('a'), file('b')]), 400, 'file'],
    ['no end', formOf([purpose, file('abc')]).slice(0, -20), 400, 'file'],
    ['a file that is too long', formOf([purpose, file('x'.repeat(1_000_001))]), 413, 'file'],
  ])('refuses a form with %s, and leaves nothing', async (_, form, status, param) => {
    const { upload, call, transport } = openEdge();
    const response = await upload(inPieces(form, 50_000));

    expect(response.status).toBe(status);
    expect((await jsonOf(response)).error.param).toBe(param);
    expect((await jsonOf(await call('/v1/files'))).data).toEqual([]);
    expect(transport.files.numUnsealed).toBe(0);
  });

  it('names the limit, before it reads when the length is told', async () => {
    const { upload } = openEdge();
    const form = formOf([purpose, file('x'.repeat(1_000_001))]);
    expect((await jsonOf(await upload(form))).error.message).toContain('1000000 bytes');
    const headers = { 'content-length': '2000000' };
    const early = await upload(inPieces('', 1), headers);
    expect(early.status).toBe(413);
    expect((await upload('{}', { 'content-type': 'application/json' })).status).toBe(415);
  });

  it('leaves nothing of an upload that is cut off', async () => {
    const { upload, transport } = openEdge();
    const cut = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode(formOf([file(long)]))),
      pull: (controller) => controller.error(new Error('gone')),
    });
    expect((await upload(cut)).status).toBe(400);
    expect(transport.files.numUnsealed).toBe(0);
  });

  it('holds a tenant to its files and bytes', async () => {
    const { upload, call } = openEdge();
    const large = formOf([purpose, file('x'.repeat(900_000))]);
    const first = await jsonOf(await upload(large));
    expect((await jsonOf(await upload(large))).error.message).toContain('1500000 bytes');
    await call(`/v1/files/${first.id}`, 'DELETE');
    const small = formOf([purpose, file('{}')]);
    for (let i = 0; i < 3; i += 1) expect((await upload(small)).status).toBe(200);
    expect((await jsonOf(await upload(small))).error.message).toContain('3 files');
  });

  it('counts an upload for as long as it comes, however slowly', async () => {
    let nowMs = 1_700_000_000_000;
    const edge = createTestEdge(null, { files: limits, now: () => nowMs });
    const claims: FileClaim[] = [];
    const { files } = edge.transport;
    const admit = files.admit.bind(files);
    files.admit = async (claim) => {
      claims.push(claim);
      await admit(claim);
    };
    const append = files.append.bind(files);
    files.append = async (...args) => {
      nowMs += 4 * 60_000; // to the next piece
      await append(...args);
    };
    const headers = { 'content-type': contentType };
    const body = formOf([purpose, file('x'.repeat(900_000))]);
    await edge.app.request('/v1/files', { method: 'POST', headers, body });

    const startMs = 1_700_000_000_000;
    const minutes = claims.map(({ expiresMs }) => (expiresMs - startMs) / 60_000);
    expect(minutes.slice(0, -1)).toEqual([10, 18, 26]); // the last one is what is kept
  });

  it('lists in pages, by age and purpose', async () => {
    const { upload, call } = openEdge();
    const ids: string[] = [];
    for (let i = 0; i < 3; i += 1) {
      ids.push((await jsonOf(await upload(formOf([purpose, file('{}')])))).id);
    }
    ids.sort();
    const list = async (query: string) => jsonOf(await call(`/v1/files?${query}`));
    const idsOf = ({ data }: { data: { id: string }[] }) => data.map(({ id }) => id);

    const first = await list('limit=2&order=asc');
    expect(first).toMatchObject({ object: 'list', has_more: true, first_id: ids[0] });
    expect(idsOf(first)).toEqual(ids.slice(0, 2));
    const second = await list(`limit=2&order=asc&after=${first.last_id}`);
    expect(second.has_more).toBe(false);
    expect(idsOf(second)).toEqual(ids.slice(2));
    expect(idsOf(await list('purpose=batch'))).toEqual([...ids].reverse());
    expect(idsOf(await list('purpose=batch_output'))).toEqual([]);
    expect(idsOf(await list('purpose=vision'))).toEqual([]);
    expect((await call('/v1/files?limit=0')).status).toBe(400);
    const refused = await call('/v1/files?after=first');
    expect(refused.status).toBe(400);
    expect((await jsonOf(refused)).error).toMatchObject({
      message: 'after is "first"; it must be the id of a file',
      param: 'after',
    });
  });

  it('belongs to its tenant, and is gone once deleted', async () => {
    const { upload, call } = openEdge();
    const { id } = await jsonOf(await upload(formOf([purpose, file('{}')])));
    for (const path of [`/v1/files/${id}`, `/v1/files/${id}/content`]) {
      expect((await call(path, 'GET', 'bob')).status).toBe(404);
    }
    expect((await call(`/v1/files/${id}`, 'DELETE', 'bob')).status).toBe(404);
    expect((await jsonOf(await call('/v1/files', 'GET', 'bob'))).data).toEqual([]);

    const deleted = await jsonOf(await call(`/v1/files/${id}`, 'DELETE'));
    expect(deleted).toEqual({ id, object: 'file', deleted: true });
    expect((await call(`/v1/files/${id}`)).status).toBe(404);
    expect((await call(`/v1/files/${id}/content`)).status).toBe(404);
    expect((await call('/v1/files/file-x')).status).toBe(404);
    expect((await call('/v1/files', 'PUT')).status).toBe(405);
  });
});
