package command_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"postern/service/local"
	"postern/tests/rig"
)

// receiver is a collector of the tests' own. It decodes OTLP over HTTP by OpenTelemetry's
// definitions, and keeps what it receives.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	raw   []byte
	about map[string]string       // the attributes of the resource
	spans map[string]*traces.Span // of sentTrace, by their names
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{spans: map[string]*traces.Span{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, body...)
	for _, resource := range sent.GetResourceSpans() {
		r.about = attributes(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if fmt.Sprintf("%x", span.GetTraceId()) == sentTrace {
					r.spans[span.GetName()] = span
				}
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func attributes(list []*common.KeyValue) map[string]string {
	texts := map[string]string{}
	for _, a := range list {
		texts[a.GetKey()] = a.GetValue().GetStringValue()
		if n, ok := a.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
			texts[a.GetKey()] = fmt.Sprint(n.IntValue)
		}
	}
	return texts
}

const (
	sentTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	sentSpan    = "00f067aa0ba902b7"
	traceparent = "00-" + sentTrace + "-" + sentSpan + "-"
)

// TestTraces has a trace of one upload, which arrives when the process stops: the exporter
// would send it a minute later.
func TestTraces(t *testing.T) {
	t.Parallel()
	const secret = "slow-word-nobody-may-read"
	database := rig.NewDatabase(t)
	database.Exec(t, `create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(2); return new; end $$;
		create trigger slow before insert on lists for each row execute function slow()`)
	r := newReceiver(t)
	p, list := served(t, database, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL, "OTEL_BSP_SCHEDULE_DELAY=60000",
		"OTEL_SERVICE_NAME=writes", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test", "POSTERN_DECISION_LOG=stdout")
	list(secret, "traceparent", traceparent+"01", "tracestate", "vendor=state", "X-Request-Id", "from-the-app")
	require.Contains(t, p.Output(), `"request_id":"from-the-app","trace_id":"`+sentTrace+`"`, "the log")
	require.Contains(t, p.Output(), `"request_id":"from-the-app","trace_id":"`+sentTrace+`","subject"`, "the decision log")
	require.Zero(t, p.Stop(), "%s", p.Output())

	require.Equal(t, "writes", r.about["service.name"])
	require.Equal(t, "test", r.about["deployment.environment.name"])
	request := r.spans["POST /api/data"]
	require.NotNil(t, request, "%v", r.spans)
	require.Equal(t, traces.Span_SPAN_KIND_SERVER, request.GetKind())
	require.Equal(t, sentSpan, fmt.Sprintf("%x", request.GetParentSpanId()))
	require.Equal(t, map[string]string{
		"http.request.method": "POST", "http.route": "/api/data", "http.response.status_code": "200", "postern.request_id": "from-the-app",
		"postern.transactions": "1", "postern.operations": "1",
	}, attributes(request.GetAttributes()))
	parents := map[string]string{}
	for name, span := range r.spans {
		require.Equal(t, "vendor=state", span.GetTraceState())
		require.LessOrEqual(t, request.GetStartTimeUnixNano(), span.GetStartTimeUnixNano(), name)
		require.GreaterOrEqual(t, request.GetEndTimeUnixNano(), span.GetEndTimeUnixNano(), name)
		for parent, other := range r.spans {
			if string(other.GetSpanId()) == string(span.GetParentSpanId()) {
				parents[name] = parent
			}
		}
	}
	require.Equal(t, map[string]string{
		"token": "POST /api/data", "body": "POST /api/data", "decode": "POST /api/data", "plan": "POST /api/data", "pool": "POST /api/data",
		"database": "POST /api/data", "answer": "POST /api/data", "insert public.lists": "database",
	}, parents)
	require.Equal(t, map[string]string{"db.operation.name": "insert", "db.collection.name": "public.lists"}, attributes(r.spans["insert public.lists"].GetAttributes()))
	for _, forbidden := range []string{secret, local.UserID("alice"), "Bearer", "eyJ"} {
		require.NotContains(t, string(r.raw), forbidden)
	}
}

// TestTracesOfACommit has a commit wait for a standby that never comes, until Postern has
// seen it for some time. Postgres still reports the statement before it.
func TestTracesOfACommit(t *testing.T) {
	t.Parallel()
	database := newServer(t)
	standby := func(name string) {
		database.Exec(t, `alter system set synchronous_standby_names = '`+name+`'`)
		database.Exec(t, `select pg_reload_conf()`)
	}
	standby("nobody")
	database.Exec(t, `alter role postern set synchronous_commit = on`) // the tests' servers have it off
	r := newReceiver(t)
	p, list := served(t, database, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		list("a", "traceparent", traceparent+"01")
	}()
	require.Eventually(t, func() bool {
		return database.Text(t, `select count(*) from pg_stat_activity asks join pg_stat_activity commits
			on commits.wait_event = 'SyncRep' and commits.query_start < asks.query_start - interval '0.2 s'
			where asks.query like 'select pid, clock_timestamp()%'`) == "1"
	}, 20*time.Second, 10*time.Millisecond)
	standby("")
	<-answered
	require.Zero(t, p.Stop(), "%s", p.Output())
	require.Contains(t, r.spans, "commit")
}

// TestTracesOfDev has the trace of an upload in dev mode.
func TestTracesOfDev(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL}, "dev", "--listen", "127.0.0.1:0", "--data", dataDir(t))
	paste(t, strings.Replace(p.await(t, curlLine), "curl ", "curl -H 'traceparent: "+traceparent+"01' ", 1))
	require.Zero(t, p.Stop(), "%s", p.Output())
	require.Contains(t, r.spans, "POST /api/data")
	require.Contains(t, r.spans, "database")

	p = start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4317"}, "dev", "--listen", "127.0.0.1:0", "--data", dataDir(t))
	require.Equal(t, 1, p.Wait())
	require.Contains(t, p.Output(), "OTEL_EXPORTER_OTLP_ENDPOINT is not an http(s) URL")
}

// collectorEnv names a program of OpenTelemetry's collector, such as tests/servers/collector.
const collectorEnv = "POSTERN_TEST_COLLECTOR"

// TestTracesInACollector sends a trace to the real collector, which prints it.
func TestTracesInACollector(t *testing.T) {
	t.Parallel()
	program := os.Getenv(collectorEnv)
	if program == "" {
		t.Skip("run make collector, or set " + collectorEnv + " to OpenTelemetry's collector")
	}
	const secret = "a-word-nobody-may-read"
	collecting, err := rig.StartProcess(filepath.Join(t.TempDir(), "output"), nil, program,
		"--config", `yaml:receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:0"}}}}`,
		"--config", `yaml:exporters: {debug: {verbosity: detailed}}`,
		"--config", `yaml:service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}, telemetry: {metrics: {level: none}}}`)
	require.NoError(t, err)
	t.Cleanup(func() { collecting.Stop() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address, err := collecting.Await(ctx, regexp.MustCompile(`Starting HTTP server.*"endpoint": "([^"]+)"`))
	require.NoError(t, err)
	p, list := served(t, rig.NewDatabase(t), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip")
	list(secret, "traceparent", traceparent+"01")
	require.Zero(t, p.Stop(), "%s", p.Output())
	_, err = collecting.Await(ctx, regexp.MustCompile(`Name +: POST /api/data`))
	require.NoError(t, err)
	for _, want := range []string{
		`service.name: Str\(postern\)`, `Trace ID +: ` + sentTrace, `Parent ID +: ` + sentSpan, `http.response.status_code: Int\(200\)`,
		`Name +: token`, `Name +: body`, `Name +: decode`, `Name +: plan`, `Name +: pool`, `Name +: database`, `Name +: answer`,
	} {
		require.Regexp(t, want, collecting.Output())
	}
	require.NotContains(t, collecting.Output(), secret)
}

// TestTracesAreSampled has the ways to turn traces off, and to have only some of them.
func TestTracesAreSampled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, flags string
		env         []string
		sent, id    bool // whether the trace is sent, and whether the log has its id
	}{
		{"ByTheClient", "00", nil, false, true},
		{"Never", "01", []string{"OTEL_TRACES_SAMPLER=always_off"}, false, true},
		{"WithoutTheClient", "00", []string{"OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=1"}, true, true},
		{"NoEndpoint", "01", []string{"OTEL_EXPORTER_OTLP_ENDPOINT="}, false, false},
		{"NoExporter", "01", []string{"OTEL_TRACES_EXPORTER=none"}, false, false},
		{"Disabled", "01", []string{"OTEL_SDK_DISABLED=true"}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			p, list := served(t, rig.NewDatabase(t), append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL}, test.env...)...)
			list("a", "traceparent", traceparent+test.flags)
			require.Zero(t, p.Stop(), "%s", p.Output())
			require.Equal(t, test.sent, len(r.spans) > 0)
			require.Equal(t, test.id, strings.Contains(p.Output(), `"trace_id":"`+sentTrace))
			if test.sent {
				require.Equal(t, "postern", r.about["service.name"])
			}
		})
	}
}

// TestTracesWithoutACollector has endpoints that are of no use: uploads go on, and the
// process ends.
func TestTracesWithoutACollector(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(over) })
	for _, test := range []struct{ name, endpoint, want string }{
		{"NobodyListens", "http://127.0.0.1:1", "connection refused"},
		{"NoAnswer", silent.URL, "the last traces are not sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, list := served(t, rig.NewDatabase(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+test.endpoint)
			list("a")
			require.Zero(t, p.Stop(), "%s", p.Output())
			require.Contains(t, p.Output(), test.want)
		})
	}
}

func TestTracesMisconfigured(t *testing.T) {
	t.Parallel()
	demo, err := filepath.Abs("../../policies/demo")
	require.NoError(t, err)
	said := refuse(t, "POSTERN_LISTEN: 127.0.0.1:0\n", []string{
		"DATABASE_URL=postgres://postern@127.0.0.1/x", "SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co", "POSTERN_POLICIES=" + demo,
		"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", "OTEL_TRACES_EXPORTER=zipkin",
	})
	for _, want := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT is not an http(s) URL: write your collector's, such as http://localhost:4318",
		`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc" is not http/protobuf`,
		`OTEL_TRACES_EXPORTER="zipkin" is neither otlp nor none`,
	} {
		require.Contains(t, said, want)
	}
}
