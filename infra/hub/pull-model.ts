import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseConfig } from '../../worker/model/config.ts';
import { download, type OnProgress } from './download.ts';
import { type Hub, type HubFile, listModel } from './repository.ts';

export interface PullOptions {
  /** `owner/name` */
  readonly id: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Where its files are put. */
  readonly directory: string;
  readonly onProgress: OnProgress;
  readonly onFetched: (file: HubFile) => void;
}

/**
 * Fetches a model's files. Its configuration comes first, so that what is not served here is
 * refused before gigabytes are on their way.
 *
 * @throws {Error} saying in a line what is wrong
 */
export async function pullModel(hub: Hub, options: PullOptions): Promise<void> {
  const { id, revision, directory, onProgress, onFetched } = options;
  for (const file of await listModel(hub, id, revision)) {
    const path = join(directory, file.name);
    if (await download(hub, file, { path, onProgress })) onFetched(file);
    if (file.name === 'config.json') await checkConfig(path);
  }
}

async function checkConfig(path: string): Promise<void> {
  try {
    parseConfig(JSON.parse(readFileSync(path, 'utf8')), path);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}
