package cmd

import (
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/awskms"
	"github.com/imprint-oci/imprint/kms/azurekms"
	"github.com/imprint-oci/imprint/kms/gcpkms"
	"github.com/imprint-oci/imprint/kms/keyfile"
	"github.com/imprint-oci/imprint/kms/notationplugin"
	"github.com/imprint-oci/imprint/kms/vault"
)

// Providers lists every place where a key can live. This is the only file that links the clients of key services.
func Providers() kms.Providers {
	return kms.Providers{
		"":         keyfile.Open,
		"file":     keyfile.Open,
		"awskms":   awskms.Open,
		"azurekms": azurekms.Open,
		"gcpkms":   gcpkms.Open,
		"plugin":   notationplugin.Open,
		"pkcs11":   notationplugin.OpenPKCS11,

		"hashivault": vault.Open,
		"openbao":    vault.Open,
	}
}
