package main

import (
	"debug/buildinfo"
	"encoding/json"
	"net/url"
	"os"
	"runtime/debug"
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
}

// writeSBOM lists the modules of a binary, and Go's standard library. Go's linker has
// recorded them in the binary.
func writeSBOM(file, version, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	list := bom{
		Format: "CycloneDX", Spec: "1.6", Version: 1,
		Metadata:   metadata{componentOf("application", info.Main.Path, version)},
		Components: []component{componentOf("library", "std", strings.TrimPrefix(info.GoVersion, "go"))},
	}
	for _, module := range info.Deps {
		list.Components = append(list.Components, moduleComponent(module))
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

func moduleComponent(module *debug.Module) component {
	if module.Replace != nil {
		module = module.Replace
	}
	return componentOf("library", module.Path, module.Version)
}

// componentOf names a module by its package URL, which scanners of vulnerabilities look up.
func componentOf(kind, path, version string) component {
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version)
	return component{Type: kind, Name: path, Version: version, PURL: purl, Ref: purl}
}
