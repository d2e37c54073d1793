package service

// descriptions has each setting, by its key. README.md's table is made of it.
var descriptions = map[string]description{
	"DATABASE_URL": {secret: true, meaning: "Postgres, as Postern's login role. `pool_max_conns=…` in it limits the connections (20). On a direct connection Postgres parses each statement once; " +
		"`statements=named` says that your pooler keeps prepared statements too, as PgBouncer does from 1.21 with `max_prepared_statements`, and `statements=unnamed` turns them off"},
	"SUPABASE_URL":             {meaning: "accept the project's users: `https://<ref>.supabase.co`"},
	"SUPABASE_JWT_SECRET":      {secret: true, meaning: "also accept legacy HS256 tokens, and forward them to the PowerSync Service, see below; rotating to an ES256 signing key is better"},
	"SUPABASE_PUBLISHABLE_KEY": {secret: true, meaning: "ask Supabase Auth about the tokens of a project without signing keys"},
	"SUPABASE_SESSIONS":        {meaning: "`check`: ask Supabase Auth whether each token's session still exists, at most every 30 s"},
	"NEON_AUTH_URL":            {meaning: "accept Neon Auth's users: `https://ep-….neonauth.….neon.tech/<db>/auth`"},
	"POSTERN_ISSUER":           {meaning: "accept the users of any other OIDC issuer, by the `iss` of its tokens"},
	"POSTERN_JWKS_URL":         {meaning: "that issuer's key set, if OIDC discovery does not find it"},
	"POSTERN_AUDIENCE":         {meaning: "the `aud` values accepted from that issuer"},
	"POSTERN_SUBJECTS":         {meaning: "with several issuers: `unique`, see below"},
	"POSTERN_ANONYMOUS_USERS":  {meaning: "`allow` or `refuse`"},

	"POWERSYNC_URL":          {meaning: "the PowerSync Service, for `GET /api/credentials`"},
	"POWERSYNC_AUDIENCE":     {meaning: "the audiences that it is configured for"},
	"POSTERN_SIGNING_KEY":    {secret: true, meaning: "mint tokens for the PowerSync Service with this key, if it would refuse the user's own: PEM or JWK, as `postern token keygen` prints; in `postern.yaml`, put a JWK in single quotes"},
	"POSTERN_SECOND_KEY":     {secret: true, meaning: "a second key that is published and does not sign, for [a rotation](#tokens-for-powersync)"},
	"POSTERN_TOKEN_LIFETIME": {meaning: "how long a minted token lives at most, from `1m` to `24h`", reason: "Short, because a minted token cannot be revoked"},
	"POSTERN_TOKEN_CLAIMS":   {meaning: "the claims of the user's token that minted ones have, too, such as `email,app_metadata`"},

	"POSTERN_POLICIES":        {meaning: "the folder of policies"},
	"POSTERN_LISTEN":          {meaning: "the address to listen on"},
	"POSTERN_ON_REJECT":       {meaning: "after a rejected transaction: `skip` to the next one, or `stop` the request"},
	"POSTERN_ALLOWED_ORIGINS": {meaning: "origins of browser apps"},
	"POSTERN_BODY_LIMIT":      {unit: "bytes", derived: true, meaning: "the longest body, after it is unpacked", reason: "A thirty-second of the memory, because a request may need 8 times its body; from 1 to 32 MiB"},
	"POSTERN_MAX_OPERATIONS":  {unit: "operations", derived: true, meaning: "the most operations in one request", reason: "One for each 400 bytes of the longest body, and at most 20,000, which can be written within the 25 s of a request"},
	"POSTERN_RECORD":          {meaning: "record what is applied for users in this file, for [`postern policy diff`](policies/README.md#what-a-change-would-do); it has what they wrote, and no tokens"},
	"POSTERN_RECORD_LIMIT":    {unit: "bytes", meaning: "the size at which recording ends", reason: "Some 200,000 small writes"},
	"POSTERN_LOG":             {meaning: "`debug`, `info`, `warn` or `error`"},

	"POSTERN_DECISION_LOG": {meaning: "write [a line for each transaction](service/monitoring/README.md#the-decision-log), its outcome and its times, to `stdout` or to this file; if empty, there is none, " +
		"because such a log tells what each user does when, and somebody must decide who keeps it for how long"},
	"POSTERN_DECISION_SUBJECT": {meaning: "the user in these lines: `plain`, `hashed` or `omitted`"},

	"POSTERN_METRICS_LISTEN":     {meaning: "the address of `/metrics` and [the console](#the-console). For a scraper on another machine or outside the container, `:9091`; users must not reach it"},
	"POSTERN_CONSOLE_PASSWORD":   {secret: true, meaning: "what the console asks requests from other machines for. Without it, they are refused"},
	"POSTERN_REJECTED_RETENTION": {meaning: "how long closed rejected writes are kept, such as `36h` or `90d`", reason: "A user may ask late what became of a write. Open and held ones stay until somebody closes them"},
	"POSTERN_WEBHOOK_URL":        {secret: true, meaning: "send each new rejected write to this URL; the database then does not go to sleep"},
	"POSTERN_WEBHOOK_SECRET":     {secret: true, meaning: "signs the webhook's requests"},
}
