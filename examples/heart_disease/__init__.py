"""Heart disease in four hospitals: a federation along a natural border."""
