package ui

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain"
)

// The screens of delegation documents: all there is to compare, nothing unescaped, and never that one is trusted.
func TestDelegationScreens(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	certificate := func(name string, years int) certchain.Certificate {
		return certchain.Certificate{Subject: name, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(years, 0, 0), Thumbprint: strings.Repeat("4f", 32)}
	}
	d := Delegation{
		File: "delegations.json", Document: digest.FromString("document"), Scope: "docker.io", Version: 18446744073709551615,
		Issued: now.Add(-3 * time.Hour), Expires: now.AddDate(0, 0, 90),
		Grants: []DelegationGrant{
			{Scope: "docker.io/acme", Certificates: []certchain.Certificate{certificate("C=US, O=Acme, CN=Acme Root", 9), certificate("C=US, O=Acme, CN=\x1b[31mAcme Root 2", 10)}},
			{Scope: "docker.io/vendor2/" + strings.Repeat("a-long-name/", 9) + "app", Certificates: []certchain.Certificate{certificate("C=DE, O=Vendor GmbH", 1)},
				Identities: []string{"C=DE, ST=BE, O=Vendor GmbH", "uri:https://ci.vendor.example/*"}},
		},
	}
	served := d
	served.File, served.Reference, served.Digest = "", "docker.io/trust/delegations:v1", digest.FromString("manifest")
	until := now.AddDate(1, 0, 0)
	served.Signatures = []audit.Signature{
		{Digest: digest.FromString("1"), Valid: true, Covers: true, Identity: "C=US, ST=CA, O=Docker, CN=delegations", Chain: []certchain.Certificate{
			certificate("C=US, ST=CA, O=Docker, CN=delegations", 1), certificate("C=US, O=Docker, CN=Delegation CA", 8)}, HoldsUntil: &until},
		{Digest: digest.FromString("2"), Reason: "signature-invalid", Detail: "the signature does not match its certificate"},
		{Digest: digest.FromString("3"), Valid: true, Identity: "CN=another"},
	}
	next := d
	next.From, next.File = "docker.io/trust/delegations:v1", "next.json"
	for name, screen := range map[string]func(io.Writer){
		"delegation-made":   func(b io.Writer) { DelegationMade(b, next, now) },
		"delegation-file":   func(b io.Writer) { DelegationInspect(b, d, now) },
		"delegation-served": func(b io.Writer) { DelegationInspect(b, served, now) },
		"delegation-batch":  func(b io.Writer) { DelegationLine(b, served, now); DelegationLine(b, d, now) },
		"delegation-nothing": func(b io.Writer) {
			DelegationInspect(b, Delegation{File: "x.json", Document: d.Document, Scope: "a.example", Version: 1, Issued: now, Expires: now}, now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			screen(&colorprofile.Writer{Forward: &b, Profile: colorprofile.NoTTY})
			got := b.String()
			if strings.Contains(got, "\x1b") {
				t.Error("what came from outside reaches the terminal")
			}
			if strings.Contains(got, "trusted") {
				t.Error("it speaks of trust")
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the screen is not testdata/%s.txt (-want +got):\n%s", name, diff)
			}
		})
	}
}
