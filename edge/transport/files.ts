import { Buffer } from 'node:buffer';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import type { TenantId } from '../../shared/ids.ts';
import {
  FILE_CHUNK_BYTES,
  type FilePurpose,
  type StoredFile,
  storedFileSchema,
} from '../../shared/protocol/file.ts';
import { ADMIT_FILE, APPEND_FILE, SEAL_FILE } from '../../shared/protocol/file-scripts.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { runScript, type ScriptHost } from '../../shared/protocol/request-scripts.ts';
import type { Reach } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';

/** What a file takes of what its tenant may have. */
export interface FileClaim {
  readonly id: string;
  readonly tenant: TenantId;
  readonly numBytes: number;
  readonly expiresMs: number;
  readonly maxFiles: number;
  readonly maxBytes: number;
}

export interface FileQuery {
  readonly tenant: TenantId;
  /** The id that the list goes on after; `null` for its beginning. */
  readonly after: string | null;
  readonly limit: number;
  readonly isNewestFirst: boolean;
  /** `null` for any. */
  readonly purpose: FilePurpose | null;
}

/** Files, written and read piece by piece. All calls may be sent again. */
export interface FileStore {
  /**
   * Counts a file among its tenant's, or says anew what it takes.
   *
   * @throws {PlatformError} `invalid_request` when the tenant has too many or too much
   */
  admit(claim: FileClaim): Promise<void>;

  /**
   * Adds piece number `index`. Nobody sees it before the file is sealed.
   *
   * @throws {PlatformError} `conflict` when the pieces before it are gone, because too long ago
   */
  append(id: string, index: number, piece: Uint8Array): Promise<void>;

  /**
   * Makes a file of that many pieces complete. @throws {PlatformError} `conflict` when some are
   * gone
   */
  seal(file: StoredFile, numPieces: number): Promise<void>;

  /** @returns `null` for a file that is unknown, incomplete or no longer kept */
  find(id: string): Promise<StoredFile | null>;

  /**
   * Pieces from number `first` on, about as many as 256 KiB hold and one at least; none at the end.
   */
  read(id: string, first: number): Promise<readonly Uint8Array[]>;

  list(query: FileQuery): Promise<readonly StoredFile[]>;

  remove(file: Pick<StoredFile, 'id' | 'tenant'>): Promise<void>;
}

/** Pieces of an upload that nobody goes on with are forgotten after this long. */
export const UPLOAD_LIFE_MS = 10 * 60_000;

/** Small pieces that are read at once; an upload's are not small. */
const MAX_PIECES = 64;
const PAGE_SIZE = 100;

const admitReplySchema = z.tuple([z.enum(['ok', 'files', 'bytes']), z.int()]);

export class RedisFiles implements FileStore {
  readonly #client: RedisClient;
  readonly #reach: Reach;
  readonly #keys: Keys;

  constructor(client: RedisClient, reach: Reach, keys: Keys) {
    this.#client = client;
    this.#reach = reach;
    this.#keys = keys;
  }

  async admit({ id, tenant, numBytes, expiresMs, maxFiles, maxBytes }: FileClaim): Promise<void> {
    const { index, expiries, sizes } = this.#keys.filesOf(tenant);
    const args = [id, numBytes, expiresMs, Date.now(), maxFiles, maxBytes];
    const keys = [index, expiries, sizes];
    const reply = await this.#reach.call(() => runScript(this.#client, ADMIT_FILE, keys, args));
    checkAdmission(admitReplySchema.parse(reply), { maxFiles, maxBytes });
  }

  async append(id: string, index: number, piece: Uint8Array): Promise<void> {
    const { chunks, meta } = this.#keys.file(id);
    const host = withBytes(this.#client, piece);
    const args = [index, UPLOAD_LIFE_MS];
    const reply = await this.#reach.call(() => runScript(host, APPEND_FILE, [chunks, meta], args));
    if (reply !== 1) throw uploadLost();
  }

  async seal(file: StoredFile, numPieces: number): Promise<void> {
    const { chunks, meta } = this.#keys.file(file.id);
    const args = [numPieces, JSON.stringify(file), file.expiresMs];
    const reply = await this.#reach.call(() =>
      runScript(this.#client, SEAL_FILE, [chunks, meta], args),
    );
    if (reply !== 1) throw uploadLost();
  }

  async find(id: string): Promise<StoredFile | null> {
    const text = await this.#reach.call(() => this.#client.get(this.#keys.file(id).meta));
    return text === null ? null : storedFileSchema.parse(JSON.parse(text));
  }

  async read(id: string, first: number): Promise<readonly Uint8Array[]> {
    const { chunks } = this.#keys.file(id);
    const range = (start: number, count: number) =>
      this.#reach.call(() => this.#client.lrangeBuffer(chunks, start, start + count - 1));
    const [piece] = await range(first, 1);
    if (piece === undefined) return [];
    // A batch writes small pieces as its results come; by the size of one we guess how many to
    // take.
    const count = Math.min(Math.floor(FILE_CHUNK_BYTES / piece.length) - 1, MAX_PIECES);
    return count <= 0 ? [piece] : [piece, ...(await range(first + 1, count))];
  }

  async list(query: FileQuery): Promise<readonly StoredFile[]> {
    const files: StoredFile[] = [];
    for (let { after } = query; ; ) {
      const ids = await this.#idsAfter({ ...query, after });
      const found = await Promise.all(ids.map((id) => this.find(id)));
      for (const file of found) {
        if (file === null || (query.purpose !== null && file.purpose !== query.purpose)) continue;
        files.push(file);
        if (files.length === query.limit) return files;
      }
      if (ids.length < PAGE_SIZE) return files;
      after = ids.at(-1) ?? null;
    }
  }

  async remove({ id, tenant }: Pick<StoredFile, 'id' | 'tenant'>): Promise<void> {
    const { chunks, meta } = this.#keys.file(id);
    const { index, expiries, sizes } = this.#keys.filesOf(tenant);
    await this.#reach.call(() => this.#client.unlink(meta, chunks));
    await this.#reach.call(() =>
      this.#client.multi().zrem(index, id).zrem(expiries, id).hdel(sizes, id).exec(),
    );
  }

  #idsAfter({ tenant, after, isNewestFirst }: FileQuery): Promise<string[]> {
    return idsInOrder(this.#client, this.#reach, {
      index: this.#keys.filesOf(tenant).index,
      after,
      isNewestFirst,
      count: PAGE_SIZE,
    });
  }
}

export interface OrderQuery {
  readonly index: string;
  readonly after: string | null;
  readonly isNewestFirst: boolean;
  readonly count: number;
}

/**
 * Members of a sorted set whose scores are all alike, so that they stand in the order of their
 * names.
 */
export function idsInOrder(
  client: RedisClient,
  reach: Reach,
  { index, after, isNewestFirst, count }: OrderQuery,
): Promise<string[]> {
  return reach.call(() =>
    isNewestFirst
      ? client.zrevrangebylex(index, after === null ? '+' : `(${after}`, '-', 'LIMIT', 0, count)
      : client.zrangebylex(index, after === null ? '-' : `(${after}`, '+', 'LIMIT', 0, count),
  );
}

/** @throws {PlatformError} `invalid_request`, with the limit */
export function checkAdmission(
  [verdict, amount]: z.infer<typeof admitReplySchema>,
  { maxFiles, maxBytes }: Pick<FileClaim, 'maxFiles' | 'maxBytes'>,
): void {
  if (verdict === 'ok') return;
  const message =
    verdict === 'files'
      ? `this file would be number ${amount} of yours; the limit is ${maxFiles} files`
      : `your files would have ${amount} bytes together; the limit is ${maxBytes} bytes`;
  throw new PlatformError('invalid_request', message, { param: 'file' });
}

function uploadLost(): PlatformError {
  return new PlatformError('conflict', 'the upload took too long and is lost; send the file again');
}

/** A host that puts bytes, which the arguments of scripts do not hold, behind them. */
function withBytes(client: RedisClient, { buffer, byteOffset, length }: Uint8Array): ScriptHost {
  const last = Buffer.from(buffer, byteOffset, length);
  return {
    evalsha: (sha1, numKeys, ...args) => client.evalsha(sha1, numKeys, ...args, last),
    eval: (lua, numKeys, ...args) => client.eval(lua, numKeys, ...args, last),
  };
}
