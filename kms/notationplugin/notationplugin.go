// Package notationplugin hosts Notary Project signing plugins.
package notationplugin
