"""scikit-learn estimators trained by the gradient flows of Chen & Muñoz Ewald."""
__version__ = "0.1.0"
