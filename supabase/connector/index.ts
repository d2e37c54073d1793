import { PosternConnector, type PosternOptions } from '../../service/connector/src/index.ts';

export * from '../../service/connector/src/index.ts';

/** As much of supabase-js' client as the connector uses. */
export interface SupabaseClient {
  auth: {
    getSession(): Promise<SupabaseSession>;
    refreshSession(): Promise<SupabaseSession>;
    onAuthStateChange(callback: (event: string, session: { access_token: string } | null) => void): unknown;
  };
}

export interface SupabaseSession {
  data: { session: { access_token: string } | null };
  error: Error | null;
}

export interface SupabaseOptions extends Omit<PosternOptions, 'getToken'> {
  supabase: SupabaseClient;
}

/**
 * Postern's connector for users of Supabase Auth. It uses the token that supabase-js has
 * reported last. It does not ask getSession() for it, which compares the token's end with
 * the device's clock: if that is fast, each call would cost a new token.
 */
export class SupabaseConnector extends PosternConnector {
  constructor({ supabase, ...options }: SupabaseOptions) {
    let token: string | undefined;
    super({
      ...options,
      getToken: async ({ fresh }) => {
        if (token !== undefined && !fresh) {
          return token;
        }
        // Nothing is reported to an app that starts offline with an expired token.
        const { data, error } = fresh ? await supabase.auth.refreshSession() : await supabase.auth.getSession();
        if (error) {
          throw error; // if the session has ended, the next call finds none
        }
        return data.session?.access_token ?? null;
      }
    });
    supabase.auth.onAuthStateChange((event, session) => {
      token = session?.access_token;
      if (event === 'SIGNED_IN') {
        // Not awaited: supabase-js holds its lock while it waits for this callback.
        this.noteUser().catch((error: unknown) => console.warn('The user of the next writes could not be noted', error));
      }
    });
  }
}
