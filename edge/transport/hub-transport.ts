import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import { type EventId, isTerminal, type LoggedEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { type TokenizerFiles, tokenizerFilesSchema } from '../../shared/protocol/model-card.ts';
import type { BatchStore } from './batches.ts';
import type { FileStore } from './files.ts';
import {
  decodeError,
  decodeFrame,
  type HubCall,
  type HubPlainCall,
  type HubStreamCall,
  KNOWN_HEADER,
  linesOf,
  readersSchema,
  servedModelsSchema,
} from './hub-protocol.ts';
import type { JobStore } from './jobs.ts';
import { createHubJobs } from './jobs-protocol.ts';
import type { NoticeStore } from './notices.ts';
import { createHubNotices } from './notices-protocol.ts';
import { unavailable } from './reach.ts';
import { requestStateSchema } from './state-protocol.ts';
import { type AskStore, createHubBatches, createHubFiles } from './stores-protocol.ts';
import {
  type KeyedCall,
  type Readers,
  type RequestState,
  type Reservation,
  type ServedModel,
  type SubmittedEvents,
  submittedEvents,
  type Transport,
} from './transport.ts';

/** Sends a call, as JSON, to hub number `hub`, in `[0, numHubs)`. */
export type SendToHub = (hub: number, call: string) => Promise<Response>;

export interface HubTransportOptions {
  readonly numHubs: number;
  readonly send: SendToHub;
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

/** A hub that is moved or restarted is gone for a moment only. */
const MAX_TRIES = 4;
const RETRY_MS = 50;

/**
 * The transport over hubs, which hold the connections to Redis. A request's calls all go to one
 * hub, chosen by its id. All calls may be sent again, and are when a hub is lost; a stream goes on
 * where it was cut.
 */
export class HubTransport implements Transport {
  readonly files: FileStore;
  readonly batches: BatchStore;
  readonly jobs: JobStore;
  readonly notices: NoticeStore;
  readonly #numHubs: number;
  readonly #send: SendToHub;
  /** For what concerns no request: one for each of us, so that they spread over the hubs. */
  readonly #anyHub: number;
  /** Streams that were given up and not yet told of in `noteLeft`. */
  readonly #givenUp = new Map<RequestId, string[]>();

  constructor({ numHubs, send }: HubTransportOptions) {
    this.#numHubs = numHubs;
    this.#send = send;
    this.#anyHub = Math.floor(Math.random() * numHubs);
    const ask: AskStore = (call, schema) =>
      this.#ask(this.#anyHub, { type: 'store', call }, schema);
    this.files = createHubFiles(ask);
    this.batches = createHubBatches(ask);
    this.jobs = createHubJobs((call, schema) =>
      this.#ask(this.#anyHub, { type: 'jobs', call }, schema),
    );
    this.notices = createHubNotices((call, schema) =>
      this.#ask(this.#anyHub, { type: 'notices', call }, schema),
    );
  }

  models(): Promise<readonly ServedModel[]> {
    return this.#ask(this.#anyHub, { type: 'models' }, servedModelsSchema);
  }

  tokenizerFiles(digest: string): Promise<TokenizerFiles> {
    return this.#ask(this.#anyHub, { type: 'tokenizerFiles', digest }, tokenizerFilesSchema);
  }

  async submit(job: Job, signal: AbortSignal): Promise<SubmittedEvents> {
    const call = { type: 'submit', job, stream: newStream() } as const;
    const { reader, isKnown } = await this.#openReader(job.id, call, signal);
    const first = isKnown ? (await this.request(job.id))?.job : undefined;
    return submittedEvents(first ?? job, this.#follow(job.id, reader, null, signal));
  }

  async open(
    id: RequestId,
    after: EventId | null,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LoggedEvent>> {
    const call = { type: 'open', id, after, stream: newStream() } as const;
    const { reader } = await this.#openReader(id, call, signal);
    return this.#follow(id, reader, after, signal);
  }

  reserved(call: KeyedCall): Promise<string | null> {
    return this.#ask(this.#anyHub, { type: 'reserved', call }, z.string().nullable());
  }

  reserve(reservation: Reservation): Promise<string> {
    return this.#ask(this.#anyHub, { type: 'reserve', reservation }, z.string());
  }

  request(id: RequestId): Promise<RequestState | null> {
    return this.#ask(this.#hubOf(id), { type: 'request', id }, requestStateSchema.nullable());
  }

  cancel(id: RequestId): Promise<RequestState | null> {
    return this.#ask(this.#hubOf(id), { type: 'cancel', id }, requestStateSchema.nullable());
  }

  noteLeft(id: RequestId): Promise<number> {
    const streams = this.#givenUp.get(id) ?? [];
    this.#givenUp.delete(id);
    return this.#ask(this.#hubOf(id), { type: 'noteLeft', id, streams }, z.int());
  }

  readersOf(id: RequestId): Promise<Readers> {
    return this.#ask(this.#hubOf(id), { type: 'readersOf', id }, readersSchema);
  }

  async ping(): Promise<void> {
    await this.#call(this.#anyHub, { type: 'ping' });
  }

  /** The last digits of an id are random. */
  #hubOf(id: RequestId): number {
    return Number.parseInt(id.slice(-8), 16) % this.#numHubs;
  }

  async #ask<Value>(hub: number, call: HubPlainCall, schema: z.ZodType<Value>): Promise<Value> {
    const response = await this.#call(hub, call);
    return schema.parse(await response.json());
  }

  /**
   * @throws {PlatformError} as the hub's transport threw it; `unavailable` when the hub does not
   *   answer
   */
  async #call(hub: number, call: HubCall): Promise<Response> {
    for (let numTries = 1; ; numTries += 1) {
      try {
        const response = await this.#send(hub, JSON.stringify(call));
        if (response.ok) return response;
        throw decodeError(await response.text());
      } catch (cause) {
        if (cause instanceof PlatformError) throw cause;
        if (numTries < MAX_TRIES) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        else throw unavailable('the queue cannot be reached', cause);
      }
    }
  }

  /** The body is given up as soon as `signal` aborts, read or not. */
  async #openReader(
    id: RequestId,
    call: HubStreamCall,
    signal: AbortSignal,
  ): Promise<{ readonly reader: Reader; readonly isKnown: boolean }> {
    const { body, headers } = await this.#call(this.#hubOf(id), call);
    if (body === null)
      throw new PlatformError('protocol_mismatch', 'a hub answered without a body');
    const reader: Reader = body.getReader();
    const cancel = () => {
      this.#givenUp.set(id, [...(this.#givenUp.get(id) ?? []), call.stream]);
      reader.cancel().catch(() => undefined); // lost is as good as cancelled
    };
    signal.addEventListener('abort', cancel);
    if (signal.aborted) cancel();
    void reader.closed
      .catch(() => undefined) // whoever reads is told
      .then(() => signal.removeEventListener('abort', cancel));
    return { reader, isKnown: headers.has(KNOWN_HEADER) };
  }

  async *#follow(
    id: RequestId,
    first: Reader,
    after: EventId | null,
    signal: AbortSignal,
  ): AsyncGenerator<LoggedEvent, void, undefined> {
    let last = after;
    for (let reader = first; ; ) {
      try {
        for await (const line of linesOf(reader)) {
          const frame = decodeFrame(line);
          if (frame.type === 'error') throw frame.error;
          if (frame.type === 'end') return;
          last = frame.logged.id;
          yield frame.logged;
          if (isTerminal(frame.logged.event)) return;
        }
      } catch (error) {
        if (error instanceof PlatformError) throw error;
      } finally {
        reader.cancel().catch(() => undefined); // it has ended, or nobody reads on
      }
      if (signal.aborted) return;
      const call = { type: 'open', id, after: last, stream: newStream() } as const;
      ({ reader } = await this.#openReader(id, call, signal));
    }
  }
}

function newStream(): string {
  return crypto.randomUUID();
}
