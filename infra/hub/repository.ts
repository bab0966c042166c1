import { z } from 'zod';

/** Where models come from, and as whom they are asked for. */
export interface Hub {
  /** `https://huggingface.co`, or a mirror with the same routes. */
  readonly endpoint: string;
  /** For models that are not open to everybody. */
  readonly token: string | null;
}

/** What a file's bytes must come to: sha256 of them, or, for small files, git's name of a blob. */
export interface Digest {
  readonly algorithm: 'sha256' | 'git';
  readonly hex: string;
}

export interface HubFile {
  readonly name: string;
  readonly url: string;
  readonly numBytes: number;
  readonly digest: Digest;
}

const listingSchema = z.object({
  sha: z.string(),
  siblings: z.array(
    z.object({
      rfilename: z.string(),
      size: z.int().nonnegative(),
      blobId: z.string(),
      lfs: z.object({ sha256: z.string() }).optional(),
    }),
  ),
});

const SINGLE = 'model.safetensors';
const SHARD = /^model-\d+-of-\d+\.safetensors$/;

/** What a model directory may hold beside its weights; the configuration comes first. */
const OTHERS = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
];

/**
 * The files of a model that a worker reads, as they are at one commit of its repository.
 *
 * @param id `owner/name`
 * @param revision branch, tag or commit
 * @throws {Error} saying in a line why there are none
 */
export async function listModel(hub: Hub, id: string, revision: string): Promise<HubFile[]> {
  if (!/^\w[\w.-]*(\/\w[\w.-]*)?$/.test(id)) {
    throw new Error(`${id} is not the name of a model; it must be like owner/name`);
  }
  const at = `${hub.endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}`;
  const { sha, siblings } = await fetchListing(hub, `${at}?blobs=true`, id);
  const has = (name: string) => siblings.some(({ rfilename }) => rfilename === name);
  const isWeights = (name: string) =>
    has(SINGLE) ? name === SINGLE : SHARD.test(name) || name === `${SINGLE}.index.json`;
  const files = siblings
    .filter(({ rfilename }) => OTHERS.includes(rfilename) || isWeights(rfilename))
    .map(({ rfilename: name, size: numBytes, blobId, lfs }): HubFile => {
      const digest: Digest = lfs
        ? { algorithm: 'sha256', hex: lfs.sha256 }
        : { algorithm: 'git', hex: blobId };
      return { name, url: `${hub.endpoint}/${id}/resolve/${sha}/${name}`, numBytes, digest };
    });
  for (const name of ['config.json', 'tokenizer.json']) {
    if (!has(name)) throw new Error(`${id} has no ${name}; it is not served here`);
  }
  if (!files.some(({ name }) => name.endsWith('.safetensors'))) {
    throw new Error(`${id} has no ${SINGLE}; only safetensors weights are supported`);
  }
  return files.sort((a, b) => rankOf(a) - rankOf(b) || a.name.localeCompare(b.name));
}

function rankOf({ name }: HubFile): number {
  const rank = OTHERS.indexOf(name);
  return rank === -1 ? OTHERS.length : rank;
}

export function authorization({ token }: Hub): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

async function fetchListing(hub: Hub, url: string, id: string) {
  const response = await fetch(url, { headers: authorization(hub) }).catch((cause: unknown) => {
    const advice = 'is the network there, and HF_ENDPOINT right?';
    throw new Error(`cannot reach ${hub.endpoint}: ${advice}`, { cause });
  });
  if (response.status === 401 || response.status === 403) {
    throw new Error(`${id} does not exist or is not open to you; set HF_TOKEN to one that may`);
  }
  if (response.status === 404) throw new Error(`${hub.endpoint} has no such model: ${id}`);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  const listing = listingSchema.safeParse(await response.json().catch(() => null));
  if (!listing.success) throw new Error(`${url} answered something else than a list of files`);
  return listing.data;
}
