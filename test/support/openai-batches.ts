import { type OpenAI, toFile } from 'openai';
import { describe, expect, it } from 'vitest';

const model = 'stories-target';
const prompt = 'Once upon a time';

/** Lines of a batch, each fifth of them wrong. */
function linesOf(count: number) {
  return Array.from({ length: count }, (_, i) => ({
    custom_id: `line-${i}`,
    method: 'POST',
    url: '/v1/completions',
    body: { model, prompt: i % 5 === 4 ? 7.5 : prompt, seed: i, max_tokens: 2 },
  }));
}

async function upload(client: OpenAI, lines: readonly object[]) {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const file = await toFile(Buffer.from(text), 'input.jsonl');
  return { text, file: await client.files.create({ file, purpose: 'batch' }) };
}

/** @returns the batch when it is over */
async function run(client: OpenAI, inputFileId: string): Promise<OpenAI.Batch> {
  const { id } = await client.batches.create({
    input_file_id: inputFileId,
    endpoint: '/v1/completions',
    completion_window: '24h',
    metadata: { from: 'a test' },
  });
  const status = async () => (await client.batches.retrieve(id)).status;
  const over = expect.stringMatching(/^(completed|failed|cancelled|expired)$/);
  await expect.poll(status, { timeout: 60_000 }).toEqual(over);
  return client.batches.retrieve(id);
}

async function readLines(client: OpenAI, id: string | undefined) {
  const text = await (await client.files.content(id ?? '')).text();
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/**
 * The files and batches of the `openai` client.
 *
 * @param open the client, when the service has begun
 */
export function describeOpenAiBatches(open: () => OpenAI): void {
  describe('files and batches', () => {
    it('keeps a file until it is deleted', async () => {
      const client = open();
      const { text, file } = await upload(client, linesOf(3));
      expect(file).toMatchObject({ object: 'file', bytes: text.length, purpose: 'batch' });
      expect(await client.files.retrieve(file.id)).toMatchObject({ filename: 'input.jsonl' });
      expect(await (await client.files.content(file.id)).text()).toBe(text);
      const listed = await Array.fromAsync(client.files.list({ purpose: 'batch', limit: 1 }));
      expect(listed.map(({ id }) => id)).toContain(file.id);

      expect(await client.files.delete(file.id)).toMatchObject({ deleted: true });
      await expect(client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
    });

    it('answers every line of a batch as it would have been alone', async () => {
      const client = open();
      const lines = linesOf(10);
      const { file } = await upload(client, lines);
      const batch = await run(client, file.id);

      expect(batch).toMatchObject({
        status: 'completed',
        request_counts: { total: 10, completed: 8, failed: 2 },
        metadata: { from: 'a test' },
      });
      const answers = await readLines(client, batch.output_file_id);
      const expected = lines.filter(({ body }) => typeof body.prompt === 'string');
      expect(answers.map((answer) => answer.custom_id)).toEqual(
        expected.map((line) => line.custom_id),
      );
      for (const [i, { body }] of expected.entries()) {
        const { status_code: status, body: answer } = answers[i].response;
        const alone = await client.completions.create({ ...body, prompt });
        expect(status).toBe(200);
        expect(answer.choices).toEqual(alone.choices);
      }
      const failures = await readLines(client, batch.error_file_id);
      expect(failures.map(({ custom_id }) => custom_id)).toEqual(['line-4', 'line-9']);
      expect(failures[0].response).toMatchObject({
        status_code: 400,
        body: { error: { param: 'prompt' } },
      });
      const listed = await Array.fromAsync(client.batches.list({ limit: 1 }));
      expect(listed.map(({ id }) => id)).toContain(batch.id);
      const outputs = await Array.fromAsync(client.files.list({ purpose: 'batch_output' }));
      expect(outputs.map(({ id }) => id)).toContain(batch.output_file_id);
    });

    it('says which lines are wrong', async () => {
      const client = open();
      const [line] = linesOf(1);
      const wrong = [
        line!,
        line!,
        { ...line!, custom_id: 'b', url: '/v1/embeddings' },
        { custom_id: 'c' },
      ];
      const { file } = await upload(client, wrong);
      const batch = await run(client, file.id);

      expect(batch.status).toBe('failed');
      expect(batch.errors?.data?.map(({ line, code }) => [line, code])).toEqual([
        [2, 'duplicate_custom_id'],
        [3, 'mismatched_url'],
        [4, 'missing_required_parameter'],
      ]);
    });

    it('refuses what it cannot run', async () => {
      const client = open();
      const create = (fields: object) =>
        client.batches.create({
          input_file_id: 'file-x',
          endpoint: '/v1/completions',
          completion_window: '24h',
          ...fields,
        });
      const refused = { status: 400 };
      await expect(create({})).rejects.toMatchObject({ ...refused, param: 'input_file_id' });
      await expect(create({ endpoint: '/v1/embeddings' })).rejects.toMatchObject({
        ...refused,
        param: 'endpoint',
      });
    });
  });
}
