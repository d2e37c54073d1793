package service_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"postern/service"
)

func TestValidateWhatIsOfRejectedWrites(t *testing.T) {
	t.Parallel()
	const good = "0123456789abcdef"
	for _, url := range []string{"https://example.com/hook", "http://127.0.0.1:9/hook", "http://[::1]/", "http://localhost:3000"} {
		c := valid()
		c.WebhookURL, c.WebhookSecret = url, good
		require.NoError(t, c.Validate(), url)
	}
	for _, days := range []string{"1d", "90d", "36h"} {
		c := valid()
		c.RejectedRetention = days
		require.NoError(t, c.Validate(), days)
	}
	for _, test := range []struct {
		change func(*service.Config)
		want   string
	}{
		{func(c *service.Config) { c.RejectedRetention = "90" }, `POSTERN_REJECTED_RETENTION="90" is neither a number of days`},
		{func(c *service.Config) { c.RejectedRetention = "0d" }, `POSTERN_REJECTED_RETENTION="0d" is neither`},
		{func(c *service.Config) { c.RejectedRetention = "-2h" }, `POSTERN_REJECTED_RETENTION="-2h" is neither`},
		{func(c *service.Config) { c.MetricsListen = "9091" }, `POSTERN_METRICS_LISTEN="9091" is not host:port`},
		{func(c *service.Config) { c.WebhookURL = "https://example.com" }, "go together: set both, or neither"},
		{func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "http://example.com?key=hidden", good }, "POSTERN_WEBHOOK_URL is not an https URL"},
		{func(c *service.Config) { c.WebhookURL, c.WebhookSecret = "https://example.com", "short" }, "POSTERN_WEBHOOK_SECRET has 5 bytes: give it 16 or more"},
	} {
		c := valid()
		test.change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, test.want)
		require.NotContains(t, err.Error(), "hidden")
		require.NotContains(t, err.Error(), "short")
	}
}
