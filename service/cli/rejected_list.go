package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"postern/service/ledger"
)

func rejectedListCommand() *cobra.Command {
	var (
		filter filterFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List rejected writes, the oldest first",
		Args:  cobra.NoArgs,
		RunE: withRecords(func(cmd *cobra.Command, r *records, _ []string) error {
			f, err := filter.filter()
			if err != nil {
				return err
			}
			if asJSON {
				return r.printJSON(cmd, f)
			}
			return r.printTable(cmd, f)
		}),
	}
	filter.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line, with every field")
	return cmd
}

func rejectedExportCommand() *cobra.Command {
	var (
		filter filterFlags
		after  string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print rejected writes with their transactions and the actions taken, one JSON object per line",
		Long: `Print rejected writes with their transactions and the actions taken, one JSON object
per line, the oldest first. If it is interrupted, it says with which --after it goes
on.`,
		Args: cobra.NoArgs,
		RunE: withRecords(func(cmd *cobra.Command, r *records, _ []string) error {
			f, err := filter.filter()
			if err != nil {
				return err
			}
			return r.export(cmd, f, after)
		}),
	}
	filter.add(cmd)
	cmd.Flags().StringVar(&after, "after", "", "go on where an export was interrupted")
	return cmd
}

// export prints records that follow those of an earlier export.
func (r *records) export(cmd *cobra.Command, f ledger.Filter, after string) (err error) {
	var last ledger.Cursor
	if after != "" {
		if last, err = ledger.ParseCursor(after); err != nil {
			return fmt.Errorf("--after=%q is not what an interrupted export has printed", after)
		}
	}
	total, err := r.Count(cmd.Context(), f)
	if err != nil {
		return err
	}
	shown, count := newProgress(cmd.ErrOrStderr(), "writes exported", total), 0
	err = r.eachAfter(cmd, f, last, func(record ledger.Record) error {
		actions, err := r.Actions(cmd.Context(), record.ID)
		if err != nil {
			return err
		}
		shown.print(func() { err = printLine(cmd.OutOrStdout(), withActions{record, actions}) })
		if err == nil {
			last = record.Cursor()
			count++
			shown.add(1)
		}
		return err
	})
	shown.end()
	if err == nil || count == 0 {
		return err
	}
	if cmd.Context().Err() != nil {
		err = errors.New("interrupted")
	}
	return fmt.Errorf("%w: %d writes are exported; go on with --after %s", err, count, last)
}

type withActions struct {
	ledger.Record
	Actions []ledger.Action `json:"actions"`
}

func printLine(out io.Writer, v any) error {
	line, err := json.Marshal(v, jsontext.AllowDuplicateNames(true)) // inside values
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

func (r *records) printJSON(cmd *cobra.Command, f ledger.Filter) error {
	out := cmd.OutOrStdout()
	return r.each(cmd, f, func(record ledger.Record) error { return printLine(out, record) })
}

// printTable prints columns of fixed widths, so that it prints the first line before
// it reads the last record.
func (r *records) printTable(cmd *cobra.Command, f ledger.Filter) error {
	const line = "%-36s  %-16s  %-9s  %-24s  %-20s  %-36s  %5v  %s\n"
	out, count := cmd.OutOrStdout(), 0
	err := r.each(cmd, f, func(record ledger.Record) error {
		if count++; count == 1 {
			fmt.Fprintf(out, line, "ID", "FIRST", "STATUS", "CODE", "TABLES", "USER", "TRIES", "MESSAGE")
		}
		_, err := fmt.Fprintf(out, line, record.ID, record.FirstAt.Local().Format("2006-01-02 15:04"), record.Status, printable(string(record.Code), 40),
			printable(strings.Join(record.Tables, ","), 40), printable(record.Subject, 64), record.Attempts, printable(record.Message, 80))
		return err
	})
	if err != nil {
		return err
	}
	if count == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no rejected writes")
	}
	return nil
}

// printable cuts a text to a number of runes and replaces control characters, which
// a client may have sent and a terminal would obey.
func printable(text string, limit int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text))
	if len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return string(runes)
}

func when(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05 MST") }
