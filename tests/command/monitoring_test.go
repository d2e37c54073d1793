package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"postern/policies"
	wire "postern/service/upload"
	"postern/tests/rig"
)

const monitoring = "../../service/monitoring"

// healthy is what an instance without problems exports.
var healthy = map[string]string{
	`up{job="postern"}`:                                           `1x3000`,
	`postern_ready`:                                               `1x3000`,
	`postern_key_set_keys{issuer="a"}`:                            `2x3000`,
	`postern_key_set_age_seconds{issuer="a"}`:                     `300x3000`,
	`postern_results_total{status="success"}`:                     `0+100x3000`,
	`postern_results_total{status="retryable_error"}`:             `0+1x3000`,
	`postern_requests_total{route="/api/data",status="200"}`:      `0+100x3000`,
	`postern_requests_total{route="/readyz",status="503"}`:        `0+100x3000`,
	`postern_request_seconds_bucket{route="/api/data",le="2.5"}`:  `0+100x3000`,
	`postern_request_seconds_bucket{route="/api/data",le="25"}`:   `0+100x3000`,
	`postern_request_seconds_bucket{route="/api/data",le="+Inf"}`: `0+100x3000`,
	`postern_uploads_too_large_total`:                             `0x3000`,
	`postern_uploads_malformed_total`:                             `0x3000`,
	`postern_rejected_full_total`:                                 `0x3000`,
	`postern_rejections_total{code="X",table="lists"}`:            `0x3000`,
	`postern_rejected_year_old`:                                   `0x3000`,
	`postern_pool_connections{state="busy"}`:                      `3x3000`,
	`postern_pool_connections_max`:                                `20x3000`,
	`postern_client_connections{job="postern"}`:                   `30x3000`,
	`postern_client_connections_max{job="postern"}`:               `1000x3000`,
	`postern_body_bytes`:                                          `0x3000`,
	`postern_body_bytes_max`:                                      `1000x3000`,
	`postern_decisions_lost_total`:                                `0x3000`,
	`process_resident_memory_bytes{job="postern"}`:                `100x3000`,
	`go_gc_gomemlimit_bytes{job="postern"}`:                       `1000x3000`,
	`go_goroutines{job="postern"}`:                                `50x3000`,
	`postern_policies_problem`:                                    `0x3000`,
	`postern_policies_info{sha256="a"}`:                           `1x3000`,
}

// sick has for each alert what fires it.
var sick = map[string]map[string]string{
	"PosternDown":               {`up{job="postern"}`: `0x3000`},
	"PosternNotReady":           {`postern_ready`: `0x3000`},
	"PosternKeySetMissing":      {`postern_key_set_keys{issuer="a"}`: `0x3000`, `postern_key_set_age_seconds{issuer="a"}`: `4000x3000`},
	"PosternWritesFail":         {`postern_results_total{status="retryable_error"}`: `0+10x3000`},
	"PosternRequestsFail":       {`postern_requests_total{route="/api/data",status="503"}`: `0+10x3000`},
	"PosternSlow":               {`postern_request_seconds_bucket{route="/api/data",le="2.5"}`: `0+50x3000`},
	"PosternQueuesStuck":        {`postern_stuck_queues{reason="23505"}`: `2x3000`},
	"PosternUploadsTooLarge":    {`postern_uploads_too_large_total`: `0+1x3000`},
	"PosternUploadsMalformed":   {`postern_uploads_malformed_total`: `0+1x3000`},
	"PosternRejectedWritesFull": {`postern_rejected_full_total`: `0+1x3000`},
	"PosternRejections":         {`postern_rejections_total{code="X",table="lists"}`: `0+1x3000`},
	"PosternRejectedWaiting":    {`postern_rejected_oldest_timestamp_seconds`: `-900000x3000`},
	"PosternRejectedYearOld":    {`postern_rejected_year_old`: `3x3000`},
	"PosternPoolExhausted":      {`postern_pool_connections{state="busy"}`: `20x3000`},
	"PosternConnectionsFull":    {`postern_client_connections{job="postern"}`: `950x3000`},
	"PosternBodiesFull":         {`postern_body_bytes`: `950x3000`},
	"PosternDecisionsLost":      {`postern_decisions_lost_total`: `0+1x3000`},
	"PosternMemory":             {`process_resident_memory_bytes{job="postern"}`: `990x3000`},
	"PosternGoroutines":         {`go_goroutines{job="postern"}`: `1100x3000`},
	"PosternPoliciesProblem":    {`postern_policies_problem`: `1x3000`},
	"PosternPoliciesDiffer":     {`postern_policies_info{sha256="b"}`: `1x3000`},
}

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr string
			Annotations map[string]string
		}
	}
}

func readRules(t *testing.T) (all rules) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(monitoring, "alerts.yaml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(content, &all))
	return all
}

// Prometheus' own engine evaluates the rules. Each alert fires alone, and none if all is
// well.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		rig.Missing(t, "promtool is not installed: apt-get install prometheus")
	}
	path, err := filepath.Abs(filepath.Join(monitoring, "alerts.yaml"))
	require.NoError(t, err)
	tests := fmt.Sprintf("rule_files: [%q]\nevaluation_interval: 1m\ntests:\n", path) + scenario("", nil)
	for _, group := range readRules(t).Groups {
		require.Len(t, group.Rules, len(sick))
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Annotations["remedy"], rule.Alert)
			require.Contains(t, sick, rule.Alert)
			tests += scenario(rule.Alert, sick[rule.Alert])
		}
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	write(t, file, tests)
	output, err := exec.CommandContext(t.Context(), promtool, "test", "rules", file).CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// scenario is a test of promtool: with these series instead of healthy ones, one alert
// fires, or none if its name is empty.
func scenario(alert string, changed map[string]string) string {
	var b strings.Builder
	b.WriteString("  - interval: 1m\n    input_series:\n")
	for series, values := range healthy {
		if changed[series] == "" {
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", series, values)
		}
	}
	for series, values := range changed {
		fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", series, values)
	}
	b.WriteString("    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: 120m\n        exp_samples: [")
	if alert != "" {
		fmt.Fprintf(&b, `{labels: '{alertname="%s"}', value: 1}`, alert)
	}
	b.WriteString("]\n")
	return b.String()
}

var metricName = regexp.MustCompile(`\b(?:postern|process|go)_[a-z_]+\b`)

// later are the metrics that exist only after something has happened.
var later = []string{
	"postern_rejections_total", "postern_stuck_queues", "postern_uploads_without_client_id_total", "postern_rejected_oldest_timestamp_seconds", "postern_observed_total", "postern_conflicts_total",
	"postern_build_info", // of the command alone
}

// The rules and the dashboard use metrics that the service has.
func TestMonitoringNamesMetrics(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t))
	answer := s.Send(t, http.MethodPost, "/api/data",
		`{"client_id":"c","transactions":[{"transaction_id":1,"crud":[{"op":"PUT","table":"lists","id":"00000000-0000-4000-8000-000000000001","op_data":{"name":"a"}}]}]}`,
		"Authorization", "Bearer "+s.Token(t, "alice"))
	require.Equal(t, http.StatusOK, answer.Status)
	s.AwaitTidy(t)
	exported := strings.Join(later, "\n") + "\n" + scrape(t, s)

	dashboard, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	require.NoError(t, err)
	require.True(t, json.Valid(dashboard))
	alerts, err := os.ReadFile(filepath.Join(monitoring, "alerts.yaml"))
	require.NoError(t, err)
	for _, name := range metricName.FindAllString(string(dashboard)+string(alerts), -1) {
		require.Contains(t, exported, name)
	}
}

// The metrics and the log of `postern serve` have the version that `postern version` prints.
func TestServeNamesItsVersion(t *testing.T) {
	t.Parallel()
	printed, err := exec.CommandContext(t.Context(), rig.Command(t), "version").Output()
	require.NoError(t, err)
	version, _, found := strings.Cut(strings.TrimPrefix(string(printed), "postern "), " (")
	require.True(t, found)
	p, _ := served(t, rig.NewDatabase(t))
	address, err := p.Await(t.Context(), regexp.MustCompile(`"msg":"serving".*"metrics":"([^"]+)".*"version":"`+regexp.QuoteMeta(version)+`"`))
	require.NoError(t, err)
	response, err := http.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(content), fmt.Sprintf("postern_build_info{version=%q} 1", version))
}

// Prometheus' own parser reads what the dashboard asks.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		rig.Missing(t, "promtool is not installed: apt-get install prometheus")
	}
	dashboard, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	require.NoError(t, err)
	rules := "groups:\n  - name: dashboard\n    rules:\n"
	queries := regexp.MustCompile(`"expr": (".*")`).FindAllStringSubmatch(string(dashboard), -1)
	require.NotEmpty(t, queries)
	for i, query := range queries {
		rules += fmt.Sprintf("      - {record: 'query:%d', expr: %s}\n", i, query[1])
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, file, rules)
	output, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput()
	require.NoError(t, err, "%s", output)
}

func scrape(t *testing.T, s *rig.Service) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	s.Metrics.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, recorder.Code)
	return recorder.Body.String()
}

// Whatever clients send, it creates no labels.
func TestCardinalityIsBounded(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t))
	send := func(i int) {
		token := s.Token(t, fmt.Sprintf("user%d", i))
		answer := s.Send(t, http.MethodPost, "/api/data", fmt.Sprintf(
			`{"client_id":"c%[1]d","transactions":[{"transaction_id":%[1]d,"crud":[{"op":"PUT","table":"invented_%[1]d","id":"x","op_data":{"c%[1]d":1}}]}]}`, i+1), "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
		require.Equal(t, http.StatusNotFound, s.Send(t, http.MethodGet, fmt.Sprintf("/invented/%d", i), "").Status)
	}
	series := func() (names []string) {
		for line := range strings.Lines(scrape(t, s)) {
			if strings.HasPrefix(line, "postern_") {
				names = append(names, line[:strings.LastIndex(line, " ")])
			}
		}
		return names
	}
	send(0)
	s.AwaitTidy(t)
	before := series()
	for i := 1; i < 20; i++ {
		send(i)
	}
	for _, name := range series() {
		require.Contains(t, before, name)
	}
	require.NotContains(t, strings.Join(before, "\n"), "invented")
}

// A rule in Go may make a code of what clients send. Only the first codes have a label.
func TestCodesOfRulesInGoAreBounded(t *testing.T) {
	t.Parallel()
	s := rig.NewService(t, rig.DemoPolicies(t).WithCode(policies.CodeRule{Name: "refuse", Tables: []string{"lists"}, Decide: func(_ context.Context, tx *policies.Tx) error {
		return policies.NewRejection(wire.Code("CODE_"+tx.Operations[0].ID), "No", 0)
	}}))
	const requests, each = 5, 50
	for range requests {
		var crud []string
		for range each {
			crud = append(crud, fmt.Sprintf(`{"crud":[{"op":"PUT","table":"lists","id":%q,"op_data":{"name":"a"}}]}`, uuid.NewString()))
		}
		answer := s.Upload(t, "alice", `{"transactions":[`+strings.Join(crud, ",")+`]}`)
		require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	}
	codes := regexp.MustCompile(`(?m)^postern_rejections_total\{code="([^"]+)",table="lists"\} (\d+)$`).FindAllStringSubmatch(scrape(t, s), -1)
	require.Len(t, codes, 201)
	require.Contains(t, scrape(t, s), fmt.Sprintf(`postern_rejections_total{code="(other)",table="lists"} %d`, requests*each-200))
}
