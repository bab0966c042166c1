import type {
  BatchEnd,
  BatchLedger,
  BatchQuery,
  BatchStore,
  Commit,
  LedgerReply,
} from '../../edge/transport/batches.ts';
import {
  checkAdmission,
  type FileClaim,
  type FileQuery,
  type FileStore,
} from '../../edge/transport/files.ts';
import { invariant } from '../../shared/assert.ts';
import { PlatformError } from '../../shared/errors.ts';
import {
  type Batch,
  type BatchSpec,
  batchFileId,
  batchSchema,
  isBatchEnded,
} from '../../shared/protocol/batch.ts';
import type { StoredFile } from '../../shared/protocol/file.ts';

/** Files in memory, with the semantics of those in Redis but for their expiry. */
export class MemoryFiles implements FileStore {
  /** Called first by every method. */
  readonly #reach: () => Promise<void>;
  readonly #piecesById = new Map<string, Uint8Array[]>();
  readonly #fileById = new Map<string, StoredFile>();
  readonly #claimById = new Map<string, FileClaim>();

  constructor(reach: () => Promise<void>) {
    this.#reach = reach;
  }

  /** Pieces of files that are not complete. */
  get numUnsealed(): number {
    return [...this.#piecesById.keys()].filter((id) => !this.#fileById.has(id)).length;
  }

  async admit(claim: FileClaim): Promise<void> {
    await this.#reach();
    const others = [...this.#claimById.values()].filter(
      ({ id, tenant }) => tenant === claim.tenant && id !== claim.id,
    );
    const numBytes = others.reduce((sum, other) => sum + other.numBytes, claim.numBytes);
    if (others.length >= claim.maxFiles) checkAdmission(['files', others.length + 1], claim);
    if (numBytes > claim.maxBytes) checkAdmission(['bytes', numBytes], claim);
    this.#claimById.set(claim.id, claim);
  }

  async append(id: string, index: number, piece: Uint8Array): Promise<void> {
    await this.#reach();
    const pieces = this.#piecesById.get(id) ?? [];
    if (pieces.length < index || this.#fileById.has(id))
      throw new PlatformError('conflict', 'lost');
    pieces[index] ??= piece.slice();
    this.#piecesById.set(id, pieces);
  }

  /** For a batch, which knows no numbers of pieces. */
  appendText(id: string, text: string): void {
    if (text === '') return;
    const pieces = this.#piecesById.get(id) ?? [];
    pieces.push(new TextEncoder().encode(text));
    this.#piecesById.set(id, pieces);
  }

  async seal(file: StoredFile, numPieces: number): Promise<void> {
    await this.#reach();
    if (this.#fileById.has(file.id)) return;
    const numThere = this.#piecesById.get(file.id)?.length ?? 0;
    if (numThere !== numPieces) throw new PlatformError('conflict', 'lost');
    this.#fileById.set(file.id, file);
  }

  hasPieces(id: string): boolean {
    return this.#piecesById.has(id);
  }

  async find(id: string): Promise<StoredFile | null> {
    await this.#reach();
    return this.#fileById.get(id) ?? null;
  }

  async read(id: string, first: number): Promise<readonly Uint8Array[]> {
    await this.#reach();
    return (this.#piecesById.get(id) ?? []).slice(first, first + 1);
  }

  async list(query: FileQuery): Promise<readonly StoredFile[]> {
    await this.#reach();
    const { tenant, after, limit, isNewestFirst, purpose } = query;
    const sign = isNewestFirst ? -1 : 1;
    return [...this.#claimById.keys()]
      .sort((a, b) => sign * (a < b ? -1 : 1))
      .filter((id) => after === null || sign * (id < after ? -1 : 1) * (id === after ? 0 : 1) > 0)
      .map((id) => this.#fileById.get(id))
      .filter((file) => file !== undefined)
      .filter((file) => file.tenant === tenant && (purpose === null || file.purpose === purpose))
      .slice(0, limit);
  }

  async remove({ id }: Pick<StoredFile, 'id'>): Promise<void> {
    await this.#reach();
    this.#piecesById.delete(id);
    this.#fileById.delete(id);
    this.#claimById.delete(id);
  }
}

/** Batches in memory, with the semantics of those in Redis. */
export class MemoryBatches implements BatchStore, BatchLedger {
  /** Told of each new batch, in place of the queue. */
  onCreate: (id: string) => void = () => undefined;
  readonly #files: MemoryFiles;
  readonly #batchById = new Map<string, Batch>();

  constructor(files: MemoryFiles) {
    this.#files = files;
  }

  async create(spec: BatchSpec, maxOpen: number): Promise<void> {
    if (this.#batchById.has(spec.id)) return;
    const open = [...this.#batchById.values()].filter(
      ({ spec: { tenant }, status }) => tenant === spec.tenant && !isBatchEnded(status),
    );
    if (open.length >= maxOpen) throw new PlatformError('rate_limit_exceeded', 'too many are open');
    this.#batchById.set(spec.id, {
      spec,
      status: 'validating',
      epoch: 0,
      numLines: 0,
      progress: {
        nextLine: 0,
        byteOffset: 0,
        numCompleted: 0,
        numFailed: 0,
        outputBytes: 0,
        errorBytes: 0,
      },
      timesMs: { validating: Date.now() },
      errors: [],
      outputFileId: null,
      errorFileId: null,
      isNotified: false,
    });
    this.onCreate(spec.id);
  }

  async find(id: string): Promise<Batch | null> {
    const batch = this.#batchById.get(id);
    return batch === undefined ? null : batchSchema.parse(batch);
  }

  async list({ tenant, after, limit }: BatchQuery): Promise<readonly Batch[]> {
    return [...this.#batchById.values()]
      .filter(({ spec }) => spec.tenant === tenant && (after === null || spec.id < after))
      .sort((a, b) => (a.spec.id < b.spec.id ? 1 : -1))
      .slice(0, limit);
  }

  async cancel(id: string): Promise<void> {
    const batch = this.#batchById.get(id);
    if (batch?.status === 'validating' || batch?.status === 'in_progress') {
      this.#change(batch, { status: 'cancelling' });
    }
  }

  async claim(id: string): Promise<Batch | null> {
    const batch = this.#batchById.get(id);
    return batch === undefined ? null : this.#change(batch, { epoch: batch.epoch + 1 });
  }

  async enter(
    batch: Batch,
    status: 'in_progress' | 'finalizing',
    numLines: number,
  ): Promise<LedgerReply> {
    return this.#write(batch, (now) => {
      const mayEnter = !isBatchEnded(now.status) && now.status !== 'cancelling';
      return mayEnter && now.status !== status ? { status, numLines } : {};
    });
  }

  async commit(batch: Batch, { progress, output, errors }: Commit): Promise<LedgerReply> {
    return this.#write(batch, (now) => {
      const { outputBytes, errorBytes, nextLine } = now.progress;
      if (nextLine >= progress.nextLine) return {};
      this.#files.appendText(batchFileId(now.spec.id, 'output'), output);
      this.#files.appendText(batchFileId(now.spec.id, 'errors'), errors);
      return {
        progress: {
          ...progress,
          outputBytes: outputBytes + Buffer.byteLength(output),
          errorBytes: errorBytes + Buffer.byteLength(errors),
        },
      };
    });
  }

  async end(batch: Batch, { status, errors, output, errorOutput }: BatchEnd): Promise<LedgerReply> {
    const seal = async (file: StoredFile) => {
      if (!this.#files.hasPieces(file.id)) return null;
      let numPieces = 0;
      while ((await this.#files.read(file.id, numPieces)).length > 0) numPieces += 1;
      await this.#files.seal(file, numPieces);
      return file.id;
    };
    const [outputFileId, errorFileId] = [await seal(output), await seal(errorOutput)];
    return this.#write(batch, (now) =>
      isBatchEnded(now.status) ? {} : { status, errors: [...errors], outputFileId, errorFileId },
    );
  }

  async close({ id }: BatchSpec): Promise<void> {
    const batch = this.#batchById.get(id);
    invariant(batch !== undefined, `no batch ${id}`);
    this.#change(batch, { isNotified: true });
  }

  #write({ spec, epoch }: Batch, write: (now: Batch) => Partial<Batch>): LedgerReply {
    const now = this.#batchById.get(spec.id);
    if (now === undefined) return { type: 'unknown', status: 'failed' };
    if (now.epoch !== epoch) return { type: 'fenced', status: now.status };
    return { type: 'ok', status: this.#change(now, write(now)).status };
  }

  #change(batch: Batch, change: Partial<Batch>): Batch {
    const { status } = change;
    const entered = status === undefined ? {} : { [status]: Date.now() };
    const timesMs = { ...batch.timesMs, ...entered };
    const changed = { ...batch, ...change, timesMs };
    this.#batchById.set(batch.spec.id, changed);
    return changed;
  }
}
