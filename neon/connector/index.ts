import { PosternConnector, type PosternOptions } from '../../service/connector/src/index.ts';

export * from '../../service/connector/src/index.ts';

/** As much of the client of Neon Auth, or of Better Auth with its jwtClient, as the connector uses. */
export interface NeonAuthClient {
  token(): Promise<{ data: { token: string } | null; error: NeonAuthError | null }>;
}

export interface NeonAuthError {
  status: number;
  message?: string | undefined;
}

export interface NeonOptions extends Omit<PosternOptions, 'getToken'> {
  auth: NeonAuthClient;
}

/**
 * Postern's connector for users of Neon Auth. Each request to Postern takes a new token
 * from Neon Auth, so the device's clock does not matter. It does not use getSession(),
 * which may return a token and a user from its cache.
 */
export class NeonConnector extends PosternConnector {
  constructor({ auth, ...options }: NeonOptions) {
    super({ ...options, getToken: () => newToken(auth) });
  }
}

async function newToken(auth: NeonAuthClient): Promise<string | null> {
  // Neon's client rejects, and Better Auth's returns the error.
  const { data, error } = await auth.token().catch((error: NeonAuthError) => ({ data: null, error }));
  if (error?.status === 401) {
    return null;
  }
  if (error || !data) {
    throw error instanceof Error ? error : new Error(`Neon Auth answered ${error?.status}: ${error?.message ?? 'no token'}`);
  }
  return data.token;
}
