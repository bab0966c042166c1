import { decodeField, type MultipartError, make, type PartInfo } from 'multipasta';
import { PlatformError } from '../shared/errors.ts';
import { FILE_CHUNK_BYTES } from '../shared/protocol/file.ts';
import { type Disposition, parseDisposition } from './disposition.ts';

/** What an upload may have beside its file: boundaries, headers of parts, fields. */
export const MAX_FORM_BYTES = 64 * 1024;
const MAX_PARTS = 16;
const MAX_FIELD_BYTES = 4096;

export interface UploadOptions {
  readonly maxFileBytes: number;
  /**
   * Takes the next piece, of 256 KiB but for the last; no more is read of the body until it has.
   */
  readonly write: (piece: Uint8Array) => Promise<void>;
}

/** A form whose one file has been handed on. */
export interface Upload {
  readonly fields: ReadonlyMap<string, string>;
  readonly filename: string;
  readonly numBytes: number;
}

/**
 * @throws {PlatformError} `unsupported_media_type` or `payload_too_large`, before anything is read
 */
export function checkFormHeaders(headers: Headers, maxFileBytes: number): void {
  const contentType = headers.get('content-type') ?? '';
  if (!/^multipart\/form-data *;.*boundary=/i.test(contentType)) {
    const given = contentType === '' ? 'missing' : JSON.stringify(contentType.slice(0, 80));
    const message = `content-type is ${given}; it must be multipart/form-data with a boundary`;
    throw new PlatformError('unsupported_media_type', message);
  }
  const numBytes = Number(headers.get('content-length') ?? 0);
  if (numBytes > maxFileBytes + MAX_FORM_BYTES) {
    throw tooLarge(`the body has ${numBytes} bytes`, maxFileBytes);
  }
}

/**
 * Reads a form with a part `file` as it comes, holding little more than one piece of it.
 *
 * @throws {PlatformError} `payload_too_large` for the file, `invalid_request` for a form that is
 *   malformed, cut off or without a file
 */
export async function readUpload(request: Request, options: UploadOptions): Promise<Upload> {
  const form = new Form(request.headers, options.maxFileBytes);
  for await (const bytes of bodyOf(request)) {
    form.add(bytes);
    for (const piece of form.takeFull()) await options.write(piece);
  }
  const upload = form.end();
  const last = form.takeRest();
  if (last.length > 0) await options.write(last);
  return upload;
}

async function* bodyOf({ body }: Request): AsyncGenerator<Uint8Array> {
  try {
    yield* body?.values({ preventCancel: true }) ?? [];
  } catch (cause) {
    throw new PlatformError('invalid_request', 'the upload was cut off', { cause, param: 'file' });
  }
}

/** The parser finds the last boundary, of 70 characters at most, only in one piece. */
const TAIL_BYTES = 128;
const UNREADABLE = 'the headers of a part are malformed';

/** The parser itself knows names in Latin-1 alone. */
function dispositionOf({ headers }: PartInfo): Disposition {
  const header = headers['content-disposition'];
  return parseDisposition(typeof header === 'string' ? header : '');
}

/** The parts of a form as far as they have come. */
class Form {
  readonly #fields = new Map<string, string>();
  readonly #maxFileBytes: number;
  readonly #parser: ReturnType<typeof make>;
  readonly #pieces = new Pieces();
  /** What came last, until more has come. */
  #tail = new Uint8Array();
  #filename: string | null = null;
  #numBytes = 0;
  #isDone = false;
  #failure: PlatformError | null = null;

  constructor(headers: Headers, maxFileBytes: number) {
    this.#maxFileBytes = maxFileBytes;
    this.#parser = make({
      headers: { 'content-type': headers.get('content-type') ?? '' },
      maxParts: MAX_PARTS,
      maxFieldSize: MAX_FIELD_BYTES,
      maxTotalSize: maxFileBytes + MAX_FORM_BYTES,
      isFile: (info) => dispositionOf(info).name === 'file',
      onField: (info, value) => {
        const { name } = dispositionOf(info);
        if (name === null) this.#fail(malformed(UNREADABLE));
        else this.#fields.set(name, decodeField(info, value));
      },
      onFile: (info) => {
        const { filename } = dispositionOf(info);
        if (this.#filename !== null) this.#fail(malformed('file is there more than once', 'file'));
        this.#filename = filename ?? 'file';
        return (bytes) => this.#addFile(bytes);
      },
      onError: (error) => this.#fail(toPlatformError(error, maxFileBytes)),
      onDone: () => {
        this.#isDone = true;
      },
    });
  }

  /** @throws {PlatformError} */
  add(bytes: Uint8Array): void {
    const all = bytes.length < TAIL_BYTES ? concat(this.#tail, bytes) : bytes;
    if (all === bytes) this.#parse(this.#tail);
    const end = Math.max(all.length - TAIL_BYTES, 0);
    this.#parse(all.subarray(0, end));
    this.#tail = all.slice(end);
  }

  #parse(bytes: Uint8Array): void {
    try {
      this.#parser.write(bytes);
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
      this.#fail(malformed(UNREADABLE)); // of a `filename*` that is none
    }
    this.#check();
  }

  takeFull(): Uint8Array[] {
    return this.#pieces.takeFull();
  }

  takeRest(): Uint8Array {
    return this.#pieces.takeRest();
  }

  /** @throws {PlatformError} when the form is not complete */
  end(): Upload {
    this.#parse(this.#tail);
    if (!this.#isDone) this.#parser.end();
    this.#check();
    if (!this.#isDone) throw malformed('the form ends before its last boundary', 'file');
    if (this.#filename === null) throw malformed('file is missing', 'file');
    return { fields: this.#fields, filename: this.#filename, numBytes: this.#numBytes };
  }

  #addFile(bytes: Uint8Array | null): void {
    if (bytes === null || this.#failure !== null) return;
    this.#numBytes += bytes.length;
    if (this.#numBytes > this.#maxFileBytes) {
      this.#fail(tooLarge('the file is longer', this.#maxFileBytes));
    } else this.#pieces.add(bytes);
  }

  #fail(error: PlatformError): void {
    this.#failure ??= error;
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Bytes as they come, to pieces of one size. */
class Pieces {
  #full: Uint8Array[] = [];
  #last = new Uint8Array(FILE_CHUNK_BYTES);
  #numLast = 0;

  add(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; ) {
      const part = bytes.subarray(start, start + FILE_CHUNK_BYTES - this.#numLast);
      this.#last.set(part, this.#numLast);
      this.#numLast += part.length;
      start += part.length;
      if (this.#numLast < FILE_CHUNK_BYTES) return;
      this.#full.push(this.#last);
      this.#last = new Uint8Array(FILE_CHUNK_BYTES);
      this.#numLast = 0;
    }
  }

  takeFull(): Uint8Array[] {
    const full = this.#full;
    this.#full = [];
    return full;
  }

  takeRest(): Uint8Array {
    return this.#last.subarray(0, this.#numLast);
  }
}

function toPlatformError(error: MultipartError, maxFileBytes: number): PlatformError {
  switch (error._tag) {
    case 'ReachedLimit':
      if (error.limit === 'MaxTotalSize') return tooLarge('the form is longer', maxFileBytes);
      if (error.limit === 'MaxParts') return malformed(`the limit is ${MAX_PARTS} parts`);
      return malformed(`a field is longer; the limit is ${MAX_FIELD_BYTES} bytes`);
    case 'EndNotReached':
      return malformed('the form ends before its last boundary', 'file');
    case 'InvalidBoundary':
      return malformed('the content-type names no boundary');
    case 'BadHeaders':
    case 'InvalidDisposition':
      return malformed(UNREADABLE);
  }
}

function malformed(message: string, param?: string): PlatformError {
  return new PlatformError('invalid_request', message, param === undefined ? {} : { param });
}

function tooLarge(what: string, maxFileBytes: number): PlatformError {
  const message = `${what}; the limit of file is ${maxFileBytes} bytes`;
  return new PlatformError('payload_too_large', message, { param: 'file' });
}
