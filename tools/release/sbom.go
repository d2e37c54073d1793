package main

import (
	"encoding/json"
	"net/url"
	"os"
	"strings"
)

// bom is the part of CycloneDX 1.6 that we write: https://cyclonedx.org/docs/1.6/json/
type bom struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Version    int         `json:"version"` // of the document
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Ref     string `json:"bom-ref"`

	Licenses []licenceChoice `json:"licenses,omitempty"`
}

type licenceChoice struct {
	License licenceName `json:"license"`
}

type licenceName struct {
	ID   string `json:"id,omitempty"` // SPDX
	Name string `json:"name,omitempty"`
}

// writeSBOM lists the modules of a binary, Go's standard library among them, with their
// licences. Go's linker has recorded them in the binary.
func writeSBOM(file, version string, licences []moduleLicence) error {
	list := bom{
		Format: "CycloneDX", Spec: "1.6", Version: 1,
		Metadata: metadata{componentOf("application", "postern", version, "Apache-2.0")},
	}
	for _, l := range licences {
		list.Components = append(list.Components, componentOf("library", l.module, l.version, l.id))
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

// componentOf names a module by its package URL, which scanners of vulnerabilities look up.
func componentOf(kind, path, version, licence string) component {
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version)
	c := component{Type: kind, Name: path, Version: version, PURL: purl, Ref: purl}
	switch licence {
	case "":
	case "Public domain": // it has no SPDX name
		c.Licenses = []licenceChoice{{licenceName{Name: licence}}}
	default:
		c.Licenses = []licenceChoice{{licenceName{ID: licence}}}
	}
	return c
}
