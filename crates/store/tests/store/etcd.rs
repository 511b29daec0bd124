//! What only the etcd store promises: it survives its server, whatever that does. Every server here is a real one.

use std::{sync::Arc, time::Duration};

use piccolo_store::{
    Error, EtcdOptions, EtcdStore, Health, Store, Transaction, WatchItem, list,
    testing::{Etcd, EtcdSetup, Pki},
};
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{PATIENCE, next, passes_the_contract, put, value};

const KEY: &str = "/piccolo/v1/nodes/a";

#[tokio::test]
async fn a_plain_etcd_passes_the_contract() {
    let etcd = Etcd::start();
    passes_the_contract(connect(&etcd)).await;
}

#[tokio::test]
async fn an_etcd_with_client_certificates_passes_the_contract() {
    let etcd = Etcd::start_with(EtcdSetup { tls: true, ..EtcdSetup::default() });
    passes_the_contract(connect(&etcd)).await;
}

pub(crate) fn connect(etcd: &Etcd) -> Arc<EtcdStore> {
    store(etcd.options("test"))
}

fn store(options: EtcdOptions) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::new(options).unwrap())
}
