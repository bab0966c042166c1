import { pickFrom, type Rng } from '../support/random.ts';
import { answerOfBody, isSame } from './answer.ts';
import type { ChaosApi } from './api.ts';
import { pause } from './client.ts';
import type { Expected } from './load.ts';

const ENDPOINT = '/v1/completions';
const POLL_MS = 500;

export interface BatchReport {
  readonly batch_lines: number;
  readonly batch_answers: number;
  /** Answered otherwise than when nothing happens, twice, or not at all. */
  readonly batch_faults: number;
}

/** A batch of requests whose answers are known, worked on while the adversary does its work. */
export class ChaosBatch {
  readonly #api: ChaosApi;
  readonly #lines: readonly Expected[];
  #id = '';

  constructor(api: ChaosApi, expected: readonly Expected[], numLines: number, rng: Rng) {
    this.#api = api;
    const whole = expected.filter(({ request }) => request.path === ENDPOINT);
    this.#lines = Array.from({ length: numLines }, () => pickFrom(rng, whole));
  }

  async submit(): Promise<void> {
    if (this.#lines.length === 0) return;
    const form = new FormData();
    form.set('purpose', 'batch');
    form.set('file', new Blob([this.#lines.map(toLine).join('')]), 'lines.jsonl');
    const file = await this.#api.post('/v1/files', form);
    const input = { input_file_id: file.id, endpoint: ENDPOINT, completion_window: '24h' };
    this.#id = String((await this.#api.post('/v1/batches', input)).id);
  }

  /** Waits for the end of the batch, and compares every line. */
  async account(patienceMs: number): Promise<BatchReport> {
    const numLines = this.#lines.length;
    if (numLines === 0) return { batch_lines: 0, batch_answers: 0, batch_faults: 0 };
    const deadlineMs = performance.now() + patienceMs;
    let batch = await this.#api.json(`/v1/batches/${this.#id}`);
    while (batch.status !== 'completed' && performance.now() < deadlineMs) {
      await pause(POLL_MS);
      batch = await this.#api.json(`/v1/batches/${this.#id}`);
    }
    const answers = await this.#linesOf(batch.output_file_id);
    for (const line of await this.#linesOf(batch.error_file_id)) console.log(`fails: ${line}`);
    if (batch.status !== 'completed') console.log(`the batch is ${batch.status}`);
    const right = new Set(answers.filter((answer) => this.#isRight(answer)));
    const numWrong = answers.length - right.size;
    return {
      batch_lines: numLines,
      batch_answers: answers.length,
      batch_faults: numWrong + Math.abs(numLines - answers.length),
    };
  }

  async #linesOf(file: unknown): Promise<string[]> {
    const text = file ? await this.#api.text(`/v1/files/${file}/content`) : '';
    return text.split('\n').filter(Boolean);
  }

  #isRight(line: string): boolean {
    const { custom_id: id, response } = JSON.parse(line);
    const expected = this.#lines[Number(id)];
    const isRight =
      expected !== undefined &&
      response.status_code === 200 &&
      isSame(answerOfBody(response.body), expected.answer);
    if (!isRight) console.log(`differs: ${line}\n  ${JSON.stringify(expected)}`);
    return isRight;
  }
}

function toLine({ request: { body } }: Expected, i: number): string {
  const { stream: _, stream_options: __, on_disconnect: ___, ...plain } = body;
  const line = { custom_id: `${i}`, method: 'POST', url: ENDPOINT, body: plain };
  return `${JSON.stringify(line)}\n`;
}
