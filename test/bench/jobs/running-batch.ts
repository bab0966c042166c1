import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const POLL_MS = 50;
const BEGUN_WITHIN_MS = 60_000;

const batchSchema = z.object({
  id: z.string(),
  status: z.string(),
  request_counts: z.object({ completed: z.int() }),
});

export interface BatchPlan {
  readonly model: string;
  /** More than can be answered while it is wanted. */
  readonly numLines: number;
  readonly numTokens: number;
}

/** A batch that is answering lines from when it is opened until it is disposed. */
export class RunningBatch implements AsyncDisposable {
  readonly #url: string;
  readonly #id: string;

  private constructor(url: string, id: string) {
    this.#url = url;
    this.#id = id;
  }

  static async open(url: string, plan: BatchPlan): Promise<RunningBatch> {
    const { id: input_file_id } = z.object({ id: z.string() }).parse(await upload(url, plan));
    const endpoint = '/v1/completions';
    const response = await fetch(`${url}/v1/batches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ input_file_id, endpoint, completion_window: '24h' }),
    });
    const { id } = batchSchema.parse(await response.json());
    const batch = new RunningBatch(url, id);
    await batch.#until(({ request_counts }) => request_counts.completed > 0);
    return batch;
  }

  /**
   * @returns lines that are answered; NaN once it is over, which what is measured beside it must
   *   not see
   */
  async numAnswered(): Promise<number> {
    const { status, request_counts } = await this.#find();
    return status === 'in_progress' ? request_counts.completed : Number.NaN;
  }

  async #find() {
    const response = await fetch(`${this.#url}/v1/batches/${this.#id}`);
    return batchSchema.parse(await response.json());
  }

  async #until(isSo: (batch: z.infer<typeof batchSchema>) => boolean): Promise<void> {
    const untilMs = performance.now() + BEGUN_WITHIN_MS;
    for (;;) {
      const batch = await this.#find();
      if (isSo(batch)) return;
      if (batch.status === 'failed' || performance.now() > untilMs) {
        throw new Error(`the batch is ${batch.status}`);
      }
      await sleep(POLL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await fetch(`${this.#url}/v1/batches/${this.#id}/cancel`, { method: 'POST' });
    await this.#until(({ status }) => status === 'cancelled' || status === 'completed');
  }
}

async function upload(url: string, { model, numLines, numTokens }: BatchPlan): Promise<unknown> {
  const lines = Array.from({ length: numLines }, (_, i) => {
    const prompt = `Once upon a time there were ${i} dogs`;
    const body = { model, prompt, max_tokens: numTokens, seed: i, ignore_eos: true };
    return JSON.stringify({ custom_id: `${i}`, method: 'POST', url: '/v1/completions', body });
  });
  const form = new FormData();
  form.set('purpose', 'batch');
  form.set('file', new Blob([`${lines.join('\n')}\n`]), 'input.jsonl');
  return (await fetch(`${url}/v1/files`, { method: 'POST', body: form })).json();
}
