// The connectors, for an app whose SDK is known by @powersync/common alone.
import { PosternConnector } from '@postern/connector';
import { NeonConnector, type NeonAuthClient } from '@postern/connector/neon';
import { SupabaseConnector, type SupabaseClient } from '@postern/connector/supabase';
import type { CommonPowerSyncDatabase, PowerSyncBackendConnector } from '@powersync/common';

const url = 'https://postern.example.com';

export function connectors(database: CommonPowerSyncDatabase, supabase: SupabaseClient, auth: NeonAuthClient): PowerSyncBackendConnector[] {
  return [
    new PosternConnector({ url, database, getToken: async () => null }),
    new SupabaseConnector({ url, database, supabase }),
    new NeonConnector({ url, database, auth })
  ];
}
