package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadLicence(t *testing.T) {
	t.Parallel()
	const mit = "Permission is hereby granted, free of\n    charge, to any person"
	for _, tc := range []struct {
		name, module string
		files        map[string]string
		id, refused  string
	}{
		{"Known", "example.com/m", map[string]string{"LICENSE": mit}, "MIT", ""},
		{"OtherNames", "example.com/m", map[string]string{"COPYING.txt": mit, "notice.go": "GNU "}, "MIT", ""},
		{"WithANotice", "example.com/m", map[string]string{"LICENSE": "Apache License\n Version 2.0", "NOTICE": "by us"}, "Apache-2.0", ""},
		{"NotAllowed", "example.com/m", map[string]string{"LICENSE": "GNU AFFERO GENERAL PUBLIC LICENSE"}, "", `the licence of example.com/m v1.0.0 is "GNU"`},
		{"Unknown", "example.com/m", map[string]string{"LICENSE": "Ask us."}, "", `is ""`},
		{"None", "example.com/m", nil, "", `is ""`},
		{"NoneWithAReason", "github.com/supabase-community/storage-go", nil, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			licence, err := readLicence(tc.module, "v1.0.0", dir)
			switch {
			case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
				t.Fatalf("the error is %v, not %s", err, tc.refused)
			case tc.refused == "" && (err != nil || licence.id != tc.id || len(licence.texts) == 0):
				t.Fatalf("%+v, %v", licence, err)
			}
		})
	}
}
